"""Which metrics are measured, and base and final put side by side."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from finetune_api.exitcodes import ExitCode
from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.manifests import MetricValue
from finetune_api.publishing import Metric
from finetune_trainer.common.errors import RunError
from finetune_trainer.data.dataset import Examples
from finetune_trainer.publish import evaluate

Measured = dict[str, tuple[float, int]]
"""Name → (value, samples)."""


@dataclass(frozen=True)
class Measure:
    spec: FineTuneJobSpec
    held_out: Examples
    tokenizer: Any
    pad_id: int
    device: torch.device
    progress: Callable[[str, int, int], None]

    def model(self, model: Any, name: str) -> Measured:
        """Everything the spec asks for; empty without held-out records. Raises RunError (72) for a loss of NaN."""
        evaluation = self.spec.evaluation
        found: Measured = {}
        if not len(self.held_out):
            return found
        if evaluation.perplexity:
            loss, tokens = evaluate.held_out_loss(
                model, self.held_out, self.pad_id, self.device, partial(self.progress, f"loss of {name}")
            )
            if math.isfinite(loss):
                found[Metric.LOSS.value] = (loss, tokens)
                found[Metric.PERPLEXITY.value] = (evaluate.perplexity(loss), tokens)
            elif name == "final":
                raise RunError(ExitCode.DIVERGED, f"the final model's held-out loss is {loss}; training diverged")
        wanted = evaluate.prompts(self.held_out, self.tokenizer, evaluation.samples.count)
        if wanted:
            limit = evaluation.samples.max_new_tokens
            evaluate.warn_of_long_targets(wanted, self.tokenizer, limit)
            share = evaluate.exact_match(
                model,
                wanted,
                self.tokenizer,
                stops=evaluate.stop_ids(self.held_out, self.tokenizer),
                max_new_tokens=limit,
                pad_id=self.pad_id,
                device=self.device,
                progress=partial(self.progress, f"samples of {name}"),
            )
            found[Metric.EXACT_MATCH.value] = (share, len(wanted))
        return found

    def combine(self, base: Measured, final: Measured) -> dict[str, MetricValue]:
        return {
            name: MetricValue(base=base[name][0] if name in base else None, final=value, samples=samples)
            for name, (value, samples) in final.items()
        }
