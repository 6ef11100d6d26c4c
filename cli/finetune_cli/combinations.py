"""Which method goes with which objective, strategy and retention term, asked of the CRD's own rules.

The reference page and the matrix test read it from here, so that neither can promise what the API server refuses.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from finetune_api.allowed import METHODS as KNOWN
from finetune_api.method import MethodType
from finetune_api.objective import ObjectiveType
from finetune_api.parallelism import StrategyName
from finetune_cli import rules

Part = Mapping[str, Any]
"""Blocks of a spec."""
Choices = Mapping[str, Part]
"""By name, the part that makes the choice."""
_SOURCE = {"uri": "file:///records"}
_METHOD_BLOCKS: Mapping[MethodType, Part] = {MethodType.FREEZE: {"freeze": {"lastLayers": 1}}}
_OBJECTIVE_BLOCKS: Mapping[ObjectiveType, Part] = {
    ObjectiveType.DISTILL: {"distill": {"teacher": {"uri": "file:///teacher"}}},
    ObjectiveType.CLASSIFICATION: {"classification": {"labels": ["no", "yes"]}},
    ObjectiveType.GRPO: {"grpo": {"rewards": [{"type": "ExactMatch"}]}},
    ObjectiveType.RLOO: {"rloo": {"rewards": [{"type": "ExactMatch"}]}},
    ObjectiveType.PPO: {"ppo": {"rewards": [{"type": "ExactMatch"}]}},
}
_BESIDE: Mapping[ObjectiveType, Part] = {
    objective: {"data": {"train": [_SOURCE], "onOverflow": "Drop"}}
    for objective in (ObjectiveType.GRPO, ObjectiveType.RLOO, ObjectiveType.PPO)
}
"""What a choice cannot do without."""

METHODS: Choices = {str(m): {"method": {"type": str(m), **_METHOD_BLOCKS.get(m, {})}} for m in KNOWN}
OBJECTIVES: Choices = {
    str(o): {"objective": {"type": str(o), **_OBJECTIVE_BLOCKS.get(o, {})}, **_BESIDE.get(o, {})} for o in ObjectiveType
}
STRATEGIES: Choices = {
    str(s): {"parallelism": {"strategy": str(s)}} for s in StrategyName if s is not StrategyName.AUTO
}
RETENTION: Choices = {
    "l2sp": {"retention": {"l2sp": "0.1"}},
    "klToBase": {"retention": {"klToBase": {"weight": "0.1", "data": _SOURCE}}},
    "ewc": {"retention": {"ewc": {"data": _SOURCE, "lambda": "1000"}}},
    "replay": {"retention": {"replay": {"data": _SOURCE, "percent": 10}}},
}


def refusals(*parts: Part) -> list[str]:
    """What the rules say against a job of these parts; full fine-tuning, where none of them chooses the method."""
    spec: dict[str, Any] = {"model": {"uri": "file:///model"}, "data": {"train": [_SOURCE]}}
    spec["method"] = {"type": str(MethodType.FULL_FINE_TUNE)}
    for part in parts:
        spec |= part
    node = rules.schema("FineTuneJob")["properties"]["spec"]
    return [message for _, message in rules.broken(node, rules.defaulted(node, spec))]
