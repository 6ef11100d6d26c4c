"""A checkpoint whose numbers are none is worse than no checkpoint: every later attempt would begin with it."""

from __future__ import annotations

import torch

from finetune_api.exitcodes import ExitCode
from finetune_trainer.checkpoint.snapshot import Snapshot
from finetune_trainer.common.errors import RunError


def refuse_non_finite(snapshot: Snapshot) -> None:
    """Raises RunError (72). Runs on the saving thread, behind training's back."""
    for what, tensors in (("parameter", snapshot.trainable), ("optimizer state", snapshot.optimizer)):
        for name, tensor in tensors.items():
            # A sum in double cannot overflow from finite floats, and any inf or nan stays in it.
            if tensor.is_floating_point() and not torch.isfinite(tensor.sum(dtype=torch.float64)):
                raise RunError(
                    ExitCode.DIVERGED,
                    f"diverged at step {snapshot.position.step}: the {what} {name} is not finite any more; nothing of "
                    "it was saved, the older checkpoint stands; lower training.learningRate",
                )
