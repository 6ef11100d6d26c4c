"""Whether the job fits where it asks to run: said before anything is taken, and where the user wants it, refused."""

from __future__ import annotations

from dataclasses import dataclass

from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.reports import Estimate
from finetune_api.running import EstimatePolicy
from finetune_trainer.engine.plan import BatchPlan
from finetune_trainer.model.estimate.judge import judge
from finetune_trainer.model.inspect import ModelInfo
from finetune_trainer.preflight.problems import wrong
from finetune_trainer.preflight.reasons import Reason


@dataclass(frozen=True)
class Capacity:
    estimate: Estimate
    memory_words: str
    warnings: list[str]


def check_capacity(model: ModelInfo, spec: FineTuneJobSpec, plan: BatchPlan) -> Capacity:
    """Raises Problem (64) for a job that does not fit under estimatePolicy Enforce."""
    try:
        found = judge(model, spec, plan)
    except ValueError as error:
        raise wrong("spec.resources.limits.memory", str(error)) from None
    warnings = []
    if found.estimate.fits == "False":
        advice = "; these would fit: " + ", or ".join(found.nearest) if found.nearest else ""
        words = f"the job does not fit: {found.memory_words}{advice}"
        if spec.resources.estimate_policy is EstimatePolicy.ENFORCE:
            raise wrong("spec.resources", words, Reason.ESTIMATE_DOES_NOT_FIT)
        warnings.append(f"{Reason.ESTIMATE_DOES_NOT_FIT}: {words}")
    if found.notice_words:
        warnings.append(f"NoticeTooShort: {found.notice_words}")
    return Capacity(found.estimate, found.memory_words, warnings)
