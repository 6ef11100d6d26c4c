"""The mean of the last checkpoints' weights (Izmailov et al. 2018, "Averaging Weights Leads to Wider Optima"; for the
last checkpoints of one run Vaswani et al. 2017, section 6.1).

Of an adapter its own matrices are averaged, not their products: close while the checkpoints are, and measured by the
gate like any other model.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import save_file

from finetune_api.exitcodes import ExitCode
from finetune_api.manifests import CheckpointManifest, Fence
from finetune_artifacts import Store
from finetune_trainer.checkpoint import files
from finetune_trainer.checkpoint.digest import trainable_digest
from finetune_trainer.checkpoint.find import Candidate, Found, committed, first_valid
from finetune_trainer.common.errors import RunError
from finetune_trainer.methods.budget import KEYS
from finetune_trainer.methods.start import KEY


def last_valid(checkpoints: Store, fences: list[Fence], folder: Path, *, count: int) -> list[Found]:
    """Newest first, each of a step of its own, verified. Raises RunError (73) when there are not so many."""
    order = _one_a_step(committed(checkpoints, fences))
    found: list[Found] = []
    for candidate in order:
        one = first_valid(checkpoints, [candidate], fences, folder)
        if one is not None:
            found.append(one)
        if len(found) == count:
            return found
    raise RunError(
        ExitCode.NO_CHECKPOINT,
        f"spec.output.average.lastK is {count}, and {checkpoints.uri_of('')} holds {len(found)} valid checkpoints; "
        "lower it (for the next run: a smaller checkpoint.intervalSteps, a larger checkpoint.keep.last), or remove it",
    )


def _one_a_step(newest_first: Sequence[Candidate]) -> list[Candidate]:
    """Of a step that two attempts have saved, the newer attempt's."""
    seen: dict[int, Candidate] = {}
    for candidate in newest_first:
        seen.setdefault(candidate.step, candidate)
    return list(seen.values())


def average(found: Sequence[Found], folder: Path) -> tuple[CheckpointManifest, Path]:
    """Into `folder`, as the files of a checkpoint's trainable part; summed in fp64, one parameter at a time. The
    manifest is the newest's, with the digest of what it is now."""
    every = [files.read_trainable(one.folder) for one in found]
    mean = {}
    for name in every[0]:
        whole = every[0][name]
        total = whole.double()
        for other in every[1:]:
            total += other[name]
        mean[name] = (total / len(every)).to(whole.dtype) if whole.is_floating_point() else whole
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in mean.items()}, folder / f"{files.TRAINABLE}.safetensors")
    states = files.read_optimizer(found[0].folder)
    remembered = {name: states[name] for name in states if name.rpartition(".")[2] in (KEY, *KEYS)}
    if remembered:
        # Where the adapter began is equal in all of them, and part of what the model is; of ranks, what was last.
        save_file(remembered, folder / f"{files.OPTIMIZER}.safetensors")
    newest = found[0].manifest
    steps = sorted(one.manifest.step for one in found)
    return newest.model_copy(
        update={"trainable_digest": trainable_digest(mean), "averaged_steps": steps, "eval_loss": None}
    ), folder
