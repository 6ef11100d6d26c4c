"""What does not go with an objective: rules of a FineTuneJob's spec. Several objectives share some."""

from __future__ import annotations

from typing import Any

from finetune_api.base import cel

Rule = dict[str, Any]


def unless(objective: str) -> str:
    """The beginning of a rule about this objective alone."""
    return f"!has(self.objective) || self.objective.type != '{objective}' || "


def rows_alone(objective: str, what: str) -> Rule:
    return cel(
        unless(objective) + "!has(self.data.packing) || !self.data.packing",
        f"{what} do not share rows: remove data.packing, or set it to false",
        ".data.packing",
    )


def not_under_zero(objective: str) -> Rule:
    return cel(
        unless(objective) + "!(self.parallelism.strategy in ['ZeRO1', 'ZeRO2', 'ZeRO3'])",
        f"{objective} has not been proven under ZeRO; set parallelism.strategy: FSDP, DDP or Auto",
        ".parallelism.strategy",
    )


def beside_the_base(objective: str) -> tuple[Rule, ...]:
    """Of objectives whose loss compares the model with its base."""
    return (
        cel(
            unless(objective) + "!has(self.method) || !(self.method.type in ['Prefix', 'Prompt', 'PTuning', "
            "'PTuningV2'])",
            f"{objective} compares with the base model, and virtual tokens change it from the first step; "
            "set method.type: LoRA",
            ".method.type",
        ),
        cel(
            unless(objective) + "!has(self.training.regularization) || !has(self.training.regularization.neftuneAlpha)",
            f"NEFTune's noise would reach the base model that {objective} compares with; remove "
            "training.regularization.neftuneAlpha",
            ".training.regularization",
        ),
    )


def with_a_head_of_its_own(objective: str, model: str, nothing: str) -> tuple[Rule, ...]:
    """Of objectives whose model gives numbers for a text; it is called `model`, and a base has no `nothing`."""
    return (
        cel(
            unless(objective) + "!has(self.method) || self.method.type in ['FullFineTune', 'LoRA']",
            f"{objective} trains a head of its own, which has been proven with LoRA and FullFineTune; "
            "set method.type to one",
            ".method.type",
        ),
        cel(
            unless(objective) + "!has(self.method) || !has(self.method.lora) || "
            "((!has(self.method.lora.init) || !(self.method.lora.init in ['PiSSA', 'OLoRA'])) && "
            "(!has(self.method.lora.modulesToSave) || self.method.lora.modulesToSave.size() == 0))",
            f"{objective} has not been proven with lora.init PiSSA and OLoRA, nor with lora.modulesToSave; remove them",
            ".method.lora",
        ),
        cel(
            unless(objective) + "self.parallelism.strategy in ['Auto', 'DDP']",
            f"{objective} has been proven under DDP only; set parallelism.strategy: DDP or Auto",
            ".parallelism.strategy",
        ),
        cel(
            unless(objective) + "self.output.merge",
            f"{model} is published whole; remove output.merge: false",
            ".output.merge",
        ),
        cel(
            unless(objective) + "!has(self.publish.servedCheck.enabled) || !self.publish.servedCheck.enabled",
            f"{model} writes nothing that a serving image could be asked for; remove publish.servedCheck.enabled",
            ".publish.servedCheck.enabled",
        ),
        cel(
            unless(objective) + "!self.evaluation.gate.exists(g, has(g.relativeTo))",
            f"the base model has no {nothing} to compare with; set max or min in evaluation.gate instead of relativeTo",
            ".evaluation.gate",
        ),
    )


def learns_from_rewards(objective: str, block: str) -> tuple[Rule, ...]:
    return (
        rows_alone(objective, "prompts that are answered in training"),
        cel(
            unless(objective) + "!has(self.data.trainOn)",
            f"{objective} learns from the answers that the model writes; remove data.trainOn",
            ".data.trainOn",
        ),
        cel(
            unless(objective) + "self.data.onOverflow in ['Drop', 'Error']",
            "answers are checked against the record's own, which must not be cut off; set data.onOverflow: Drop or "
            "Error",
            ".data.onOverflow",
        ),
        cel(
            unless(objective) + "!has(self.method) || self.method.type in ['FullFineTune', 'LoRA', 'QLoRA', 'DoRA']",
            f"{objective} has been proven with LoRA, QLoRA, DoRA and FullFineTune; set method.type to one",
            ".method.type",
        ),
        cel(
            unless(objective) + f"!has(self.objective.{block}) || self.objective.{block}.beta.matches('^0([.]0*)?$') "
            "|| (has(self.method) && self.method.type in ['LoRA', 'QLoRA', 'DoRA'] && (!has(self.method.lora) || "
            "!has(self.method.lora.init) || !(self.method.lora.init in ['PiSSA', 'OLoRA', 'LoftQ'])))",
            f"objective.{block}.beta compares with the base model, which is there with LoRA, QLoRA and DoRA only (not "
            'with lora.init PiSSA, OLoRA and LoftQ); set method.type: LoRA, or beta: "0"',
            f".objective.{block}.beta",
        ),
        cel(
            unless(objective) + "!has(self.training.regularization) || !has(self.training.regularization.neftuneAlpha)",
            f"NEFTune has not been proven with {objective}; remove training.regularization.neftuneAlpha",
            ".training.regularization",
        ),
        cel(
            unless(objective) + "self.training.onSpike == 'Ignore'",
            f"{objective} learns most from the rare batches whose gradient stands out, and its loss is near 0 by "
            "construction; remove training.onSpike",
            ".training.onSpike",
        ),
        cel(
            unless(objective) + "self.parallelism.strategy in ['Auto', 'DDP']",
            f"{objective} has been proven under DDP only; set parallelism.strategy: DDP or Auto",
            ".parallelism.strategy",
        ),
    )


DPO_RULES = (rows_alone("DPO", "pairs of answers"), *beside_the_base("DPO"), not_under_zero("DPO"))
DISTILL_RULES = (
    cel(
        unless("Distill") + "!has(self.objective.distill) || !has(self.objective.distill.topK) || "
        "!has(self.data.packing) || !self.data.packing",
        "a teacher's answers are found by record (objective.distill.topK), so records do not share rows: "
        "remove data.packing, or set it to false",
        ".data.packing",
    ),
    not_under_zero("Distill"),
)
KTO_RULES = (
    rows_alone("KTO", "rated answers"),
    cel(
        unless("KTO") + "!has(self.data.trainOn) || self.data.trainOn != 'All'",
        "KTO rates answers, and data.trainOn: All would make their prompts part of them; remove data.trainOn",
        ".data.trainOn",
    ),
    *beside_the_base("KTO"),
    not_under_zero("KTO"),
)

REWARD_RULES = (rows_alone("Reward", "pairs of answers"), *with_a_head_of_its_own("Reward", "a reward model", "scores"))
CLASSIFICATION_RULES = (
    rows_alone("Classification", "labeled texts"),
    cel(
        unless("Classification") + "!has(self.data.trainOn)",
        "Classification learns a text's label and none of its words; remove data.trainOn",
        ".data.trainOn",
    ),
    cel(
        unless("Classification") + "self.data.onOverflow != 'Split'",
        "a label belongs to a whole text; set data.onOverflow: Truncate, Drop or Error",
        ".data.onOverflow",
    ),
    *with_a_head_of_its_own("Classification", "a classifier", "labels"),
)
GRPO_RULES = learns_from_rewards("GRPO", "grpo")
RLOO_RULES = learns_from_rewards("RLOO", "rloo")
PPO_RULES = (
    *learns_from_rewards("PPO", "ppo"),
    cel(
        unless("PPO")
        + "((!has(self.method) || !has(self.method.lora) || self.method.lora.dropout.matches('^0([.]0*)?$')) "
        "&& (!has(self.training.regularization) || !has(self.training.regularization.dropout)))",
        "PPO compares the model with itself as it was when it wrote, and dropout would make them differ; remove "
        "method.lora.dropout and training.regularization.dropout",
        ".method.lora",
    ),
)
OBJECTIVE_RULES = (
    *DPO_RULES,
    *DISTILL_RULES,
    *KTO_RULES,
    *REWARD_RULES,
    *CLASSIFICATION_RULES,
    *GRPO_RULES,
    *RLOO_RULES,
    *PPO_RULES,
)
