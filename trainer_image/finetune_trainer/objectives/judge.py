"""A reward model as judge of what another model writes (Ouyang et al. 2022, "Training language models to follow
instructions with human feedback", section 3.5): one number for a prompt with its answer.

It reads the tokens that were written, as it read those of the answers it was trained on: so it has to have the
vocabulary of the model that writes, which preflight makes sure of. Like a teacher it stands whole on every process and
never changes; it is no part of a checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from finetune_api.exitcodes import ExitCode
from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.objective import Head, judge_of
from finetune_trainer.common.errors import RunError
from finetune_trainer.engine.attention import candidates
from finetune_trainer.engine.batch import Example, collate
from finetune_trainer.engine.model import computed_type, load_base
from finetune_trainer.engine.scorer import row_scores
from finetune_trainer.engine.write import Tokens


class Judge:
    def __init__(self, model: Any) -> None:
        """`model`: as `engine.scorer.load_scorer` gives it, frozen."""
        self._model = model

    @torch.no_grad()
    def scores(self, prompts: Sequence[Tokens], answers: Sequence[Tokens], device: torch.device) -> torch.Tensor:
        """fp32 (b,). Raises RunError (72) for one that is not a number."""
        rows = [as_row(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]
        # It finds a text's last token by its own padding.
        batch = collate(rows, range(len(rows)), self._model.config.pad_token_id)
        found_b = row_scores(self._model, batch.to(device))
        if not torch.isfinite(found_b).all():
            raise RunError(ExitCode.DIVERGED, "the reward model's score of an answer is not a finite number")
        return found_b


def as_row(prompt: Tokens, answer: Tokens) -> Example:
    ids = np.array(prompt + answer, dtype=np.int32)
    return ids, np.arange(len(ids)) >= len(prompt)


def load_judge(spec: FineTuneJobSpec, folder: Path, device: torch.device) -> Judge | None:
    """From what was fetched to `folder`; None where no reward is a model's. Raises RunError (66)."""
    if judge_of(spec) is None:
        return None
    model = load_base(folder, computed_type(spec, device), candidates(spec, device), head=Head())
    return Judge(model.to(device).eval().requires_grad_(False))
