"""`FineTuneJob.spec.objective`: what training minimises."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Protocol

from pydantic import ConfigDict, Field

from finetune_api.base import ApiModel, PositiveDecimal, cel, rules
from finetune_api.objective_classification import ClassificationSettings, Problem
from finetune_api.objective_distill import DistillSettings
from finetune_api.objective_kto import KTOSettings
from finetune_api.objective_policy import GRPOSettings, PolicySettings, RLOOSettings
from finetune_api.objective_ppo import PPOSettings
from finetune_api.objective_reward import RewardSettings
from finetune_api.publishing import Metric
from finetune_api.storage import Stored


class ObjectiveType(StrEnum):
    SFT = "SFT"
    PRETRAIN = "Pretrain"
    DPO = "DPO"
    DISTILL = "Distill"
    KTO = "KTO"
    REWARD = "Reward"
    CLASSIFICATION = "Classification"
    GRPO = "GRPO"
    RLOO = "RLOO"
    PPO = "PPO"


class DPOLoss(StrEnum):
    SIGMOID = "Sigmoid"
    HINGE = "Hinge"
    IPO = "IPO"


class DPOSettings(ApiModel):
    """Direct preference optimisation: the chosen answer is made likelier than the rejected one, measured against the
    base model."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            cel(
                "!has(self.labelSmoothing) || self.loss == 'Sigmoid'",
                "labelSmoothing belongs to loss: Sigmoid; remove it, or set loss: Sigmoid",
            )
        )
    )

    beta: Annotated[
        PositiveDecimal,
        Field(description="How closely the model is held to the base: larger is closer. For IPO the paper's tau."),
    ] = "0.1"
    loss: Annotated[
        DPOLoss,
        Field(
            description="Sigmoid: -log sigmoid(beta * margin). Hinge: max(0, 1 - beta * margin). IPO: "
            "(margin per token - 1 / (2 * beta))^2, which does not push pairs apart without end."
        ),
    ] = DPOLoss.SIGMOID
    label_smoothing: (
        Annotated[
            str,
            Field(
                max_length=24,
                pattern=r"^0(\.[0-4][0-9]*)?$",
                description="The share of pairs believed to be labelled the wrong way round, below 0.5 (conservative "
                "DPO). Unset: 0.",
            ),
        ]
        | None
    ) = None


class Objective(ApiModel):
    model_config = ConfigDict(
        json_schema_extra=rules(
            cel(
                "!has(self.dpo) || self.type == 'DPO'",
                "the dpo block belongs to type DPO; remove it or set type: DPO",
            ),
            cel(
                "has(self.distill) == (self.type == 'Distill')",
                "the distill block belongs to type Distill, which needs it for its teacher; set both, or neither",
            ),
            cel(
                "!has(self.kto) || self.type == 'KTO'",
                "the kto block belongs to type KTO; remove it or set type: KTO",
            ),
            cel(
                "!has(self.reward) || self.type == 'Reward'",
                "the reward block belongs to type Reward; remove it or set type: Reward",
            ),
            cel(
                "has(self.classification) == (self.type == 'Classification')",
                "the classification block belongs to type Classification, which needs it for its labels; set both, "
                "or neither",
            ),
            cel(
                "has(self.grpo) == (self.type == 'GRPO')",
                "the grpo block belongs to type GRPO, which needs it for its rewards; set both, or neither",
            ),
            cel(
                "has(self.rloo) == (self.type == 'RLOO')",
                "the rloo block belongs to type RLOO, which needs it for its rewards; set both, or neither",
            ),
            cel(
                "has(self.ppo) == (self.type == 'PPO')",
                "the ppo block belongs to type PPO, which needs it for its rewards; set both, or neither",
            ),
        )
    )

    type: Annotated[
        ObjectiveType,
        Field(
            description="SFT: write the answers of the records. Pretrain: continue raw text (format Text). DPO: prefer "
            "the chosen of two answers (format Preference). KTO: learn from single answers rated good or bad "
            "(format Preference, with prompt, completion and label). Distill: answer as a larger model does. "
            "Reward: score answers, the chosen of two higher. Classification: sort texts by labels (format Labeled). "
            "GRPO, RLOO, PPO: write answers, and learn from their rewards."
        ),
    ] = ObjectiveType.SFT
    dpo: DPOSettings | None = None
    kto: KTOSettings | None = None
    reward: RewardSettings | None = None
    distill: DistillSettings | None = None
    classification: ClassificationSettings | None = None
    grpo: GRPOSettings | None = None
    rloo: RLOOSettings | None = None
    ppo: PPOSettings | None = None


class HasObjective(Protocol):
    @property
    def objective(self) -> Objective | None: ...


def objective_of(spec: HasObjective) -> Objective:
    """What the spec says, or SFT."""
    return spec.objective or Objective()


def teacher_of(spec: HasObjective) -> Stored | None:
    """The model that is asked beside the one that trains: a teacher, or a reward model."""
    settings, judge = objective_of(spec).distill, judge_of(spec)
    return settings.teacher if settings else judge[1] if judge else None


def judge_of(spec: HasObjective) -> tuple[str, Stored] | None:
    """The path in the spec of a reward model, and where to read it."""
    policy = policy_of(spec)
    for number, function in enumerate(policy.rewards if policy else ()):
        if function.model is not None:
            # Blocks are named as their types are.
            return f"spec.objective.{objective_of(spec).type.lower()}.rewards[{number}].model", function.model
    return None


def taught_from(spec: HasObjective) -> tuple[str, Stored] | None:
    """Its path in the spec, and where to read what a model learns from beside data: a teacher, its answers, or a
    reward model."""
    settings = objective_of(spec).distill
    for name, source in (("teacher", settings.teacher), ("topK", settings.top_k)) if settings else ():
        if source is not None:
            return f"spec.objective.distill.{name}", source
    return judge_of(spec)


MEASURED: Mapping[ObjectiveType, tuple[Metric, ...]] = {
    ObjectiveType.SFT: (Metric.LOSS, Metric.PERPLEXITY, Metric.EXACT_MATCH),
    ObjectiveType.PRETRAIN: (Metric.LOSS, Metric.PERPLEXITY),
    ObjectiveType.DISTILL: (Metric.DIVERGENCE, Metric.LOSS, Metric.PERPLEXITY, Metric.EXACT_MATCH),
    ObjectiveType.DPO: (Metric.LOSS, Metric.PREFERENCE_ACCURACY, Metric.REWARD_MARGIN),
    ObjectiveType.REWARD: (Metric.LOSS, Metric.PREFERENCE_ACCURACY, Metric.REWARD_MARGIN),
    ObjectiveType.KTO: (Metric.LOSS, Metric.RATING_ACCURACY, Metric.REWARD_MARGIN),
    ObjectiveType.CLASSIFICATION: (Metric.LOSS, Metric.ACCURACY, Metric.F1),
    ObjectiveType.GRPO: (Metric.REWARD,),
    ObjectiveType.RLOO: (Metric.REWARD,),
    ObjectiveType.PPO: (Metric.REWARD,),
}
"""What held-out records are measured by, and a gate can ask for."""

BESIDE_THE_BASE = (ObjectiveType.DPO, ObjectiveType.KTO)
"""Those whose loss compares the model with its base."""


@dataclass(frozen=True)
class Head:
    """Of a model that gives numbers for a text, in place of the one that writes."""

    labels: tuple[str, ...] = ()
    """One output each; none: a single output, the score."""
    problem: Problem | None = None

    @property
    def outputs(self) -> int:
        return len(self.labels) or 1


def head_of(spec: HasObjective) -> Head | None:
    """None for a model that writes."""
    objective = objective_of(spec)
    if objective.classification is not None:
        return Head(tuple(objective.classification.labels), objective.classification.problem)
    return Head() if objective.type is ObjectiveType.REWARD else None


def scores(spec: HasObjective) -> bool:
    """Whether the model gives numbers for a text, and writes none."""
    return head_of(spec) is not None


def policy_of(spec: HasObjective) -> PolicySettings | None:
    """Of an objective that learns from what the model writes."""
    objective = objective_of(spec)
    return objective.grpo or objective.rloo or objective.ppo


def foresees(spec: HasObjective) -> bool:
    """Whether a head that foresees rewards trains beside the one that writes."""
    return objective_of(spec).type is ObjectiveType.PPO


def rows_per_record(spec: HasObjective) -> int:
    """A pair of answers is two rows of a batch, a prompt as many as there are answers to it."""
    if (policy := policy_of(spec)) is not None:
        return policy.generations
    return 2 if objective_of(spec).type in (ObjectiveType.DPO, ObjectiveType.REWARD) else 1


def new_tokens(spec: HasObjective) -> int:
    """What a row can grow by beyond `data.maxLength`."""
    policy = policy_of(spec)
    return policy.max_new_tokens if policy else 0


def needs_whole(spec: HasObjective) -> str | None:
    """Why parameters are not cut over GPUs; None where they may be."""
    whole = scores(spec) or policy_of(spec) is not None
    return f"objective {objective_of(spec).type} has been proven under DDP only" if whole else None
