"""Which metrics are measured, and base and final put side by side."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch

from finetune_api.exitcodes import ExitCode
from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.manifests import MetricValue
from finetune_api.objective import MEASURED, DPOSettings, objective_of, policy_of, scores
from finetune_api.objective_kto import KTOSettings
from finetune_api.objective_reward import RewardSettings
from finetune_api.publishing import Metric
from finetune_trainer.common.errors import RunError
from finetune_trainer.engine.loss import row_log_probs
from finetune_trainer.engine.scorer import row_scores
from finetune_trainer.engine.write import stop_ids
from finetune_trainer.objectives.distill import Distill
from finetune_trainer.objectives.judge import Judge
from finetune_trainer.objectives.labeled import LabeledTexts
from finetune_trainer.objectives.pairs import Pairs
from finetune_trainer.objectives.policy import Policy
from finetune_trainer.objectives.ratings import Ratings
from finetune_trainer.publish import classified, divergence, evaluate, preference, rating, scoring

Measured = dict[str, tuple[float, int]]
"""Name → (value, samples)."""


@dataclass(frozen=True)
class Measure:
    spec: FineTuneJobSpec
    held_out: Any
    """As `engine.rows.held_out_rows` gives them."""
    tokenizer: Any
    pad_id: int
    device: torch.device
    progress: Callable[[str, int, int], None]
    asked: dict[str, preference.LogProbs] = field(default_factory=dict)
    """What each model said of pairs: they are judged by two models together."""

    distill: Distill | None = None
    """With its teacher, of objective Distill."""
    judge: Judge | None = None
    """Of an objective that learns from a reward model."""

    def model(self, model: Any, name: str) -> Measured:
        """Everything the spec asks for; empty without held-out records. Raises RunError (72) for a loss of NaN."""
        evaluation = self.spec.evaluation
        found: Measured = {}
        if not len(self.held_out):
            return found
        if (policy := policy_of(self.spec)) is not None:
            return self._rewards(Policy(policy), model, name)
        if isinstance(self.held_out, LabeledTexts):
            return self._of_texts(self.held_out, model, name)
        if isinstance(self.held_out, Pairs):
            self.asked[name] = self._of_pairs(self.held_out, model, name)
            if scores(self.spec):
                found |= scoring.judge(objective_of(self.spec).reward or RewardSettings(), self.asked[name])
            return found
        if self.distill is not None:
            found[Metric.DIVERGENCE.value] = self._from_teacher(self.distill, model, name)
        if evaluation.perplexity:
            loss, tokens = evaluate.held_out_loss(
                model, self.held_out, self.pad_id, self.device, partial(self.progress, f"loss of {name}")
            )
            if math.isfinite(loss):
                found[Metric.LOSS.value] = (loss, tokens)
                found[Metric.PERPLEXITY.value] = (evaluate.perplexity(loss), tokens)
            elif name == "final":
                raise RunError(ExitCode.DIVERGED, f"the final model's held-out loss is {loss}; training diverged")
        if Metric.EXACT_MATCH not in MEASURED[objective_of(self.spec).type]:
            return found
        wanted = evaluate.prompts(self.held_out, self.tokenizer, evaluation.samples.count)
        if wanted:
            limit = evaluation.samples.max_new_tokens
            evaluate.warn_of_long_targets(wanted, self.tokenizer, limit)
            share = evaluate.exact_match(
                model,
                wanted,
                self.tokenizer,
                stops=stop_ids(self.held_out, self.tokenizer),
                max_new_tokens=limit,
                pad_id=self.pad_id,
                device=self.device,
                progress=partial(self.progress, f"samples of {name}"),
            )
            found[Metric.EXACT_MATCH.value] = (share, len(wanted))
        return found

    def _rewards(self, objective: Policy, model: Any, name: str) -> Measured:
        """Of the likeliest answers to as many prompts as exact matches would be counted over."""
        count = min(len(self.held_out), self.spec.evaluation.samples.count)
        objective.equip(self.tokenizer, self.held_out, self.pad_id, self.judge)
        total = 0.0
        for start in range(0, count, evaluate.PROMPTS_PER_BATCH):
            indices = range(start, min(start + evaluate.PROMPTS_PER_BATCH, count))
            batch = objective.collate(self.held_out, indices, self.pad_id).to(self.device)
            total -= float(objective.judge(model, batch, lambda: None).loss)
            self.progress(f"rewards of {name}", indices.stop, count)
        return {Metric.REWARD.value: (total / count, count)} if count else {}

    def _of_texts(self, texts: LabeledTexts, model: Any, name: str) -> Measured:
        settings = objective_of(self.spec).classification
        assert settings is not None
        found = classified.judge(
            settings,
            model,
            texts,
            evaluate.batches(texts),
            pad_id=self.pad_id,
            device=self.device,
            progress=partial(self.progress, f"labels of {name}"),
        )
        if not math.isfinite(found[Metric.LOSS.value][0]):
            raise RunError(ExitCode.DIVERGED, "the final model's outputs are not finite; training diverged")
        return found

    def _from_teacher(self, distill: Distill, model: Any, name: str) -> tuple[float, int]:
        found = divergence.held_out_divergence(
            model,
            distill,
            self.held_out,
            pad_id=self.pad_id,
            device=self.device,
            progress=partial(self.progress, f"divergence of {name}"),
        )
        if name == "final" and not math.isfinite(found[0]):
            raise RunError(ExitCode.DIVERGED, f"the final model's divergence is {found[0]}; training diverged")
        return found

    def _of_pairs(self, pairs: Pairs, model: Any, name: str) -> preference.LogProbs:
        found = preference.log_probs(
            model,
            pairs,
            list(evaluate.batches(pairs)),
            pad_id=self.pad_id,
            device=self.device,
            progress=partial(self.progress, f"preferences of {name}"),
            ask=row_scores if scores(self.spec) else row_log_probs,
        )
        if name == "final" and not np.isfinite(found).all():
            raise RunError(ExitCode.DIVERGED, "the final model's answers are not finite; training diverged")
        return found

    def _judged(self, pairs: Pairs, model: preference.LogProbs, base: preference.LogProbs) -> Measured:
        objective = objective_of(self.spec)
        if isinstance(pairs, Ratings):
            return rating.judge(objective.kto or KTOSettings(), pairs, model, base)
        return preference.judge(objective.dpo or DPOSettings(), pairs, model, base)

    def combine(self, base: Measured, final: Measured) -> dict[str, MetricValue]:
        if isinstance(self.held_out, Pairs) and self.asked and not scores(self.spec):
            base, final = (
                self._judged(self.held_out, self.asked[name], self.asked["base"]) for name in ("base", "final")
            )
        return {
            name: MetricValue(base=base[name][0] if name in base else None, final=value, samples=samples)
            for name, (value, samples) in final.items()
        }
