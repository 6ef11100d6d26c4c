"""What one row of a batch is: a record, several that share it, a piece of text, or a pair. Rank 0 decides whether
records share rows: only it sees the checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_api.allowed import METHODS
from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.objective import ObjectiveType, objective_of, policy_of, teacher_of
from finetune_api.runconfig import RunConfig
from finetune_trainer.checkpoint.files import read_position
from finetune_trainer.common.channel import Channel, Heart
from finetune_trainer.common.places import Places
from finetune_trainer.data.dataset import Examples
from finetune_trainer.data.pack_rule import ISOLATING, model_type, pack_rule
from finetune_trainer.data.packed import Packed, pack
from finetune_trainer.data.wrapped import Wrapped
from finetune_trainer.engine.agree import Agreement
from finetune_trainer.objectives.labeled import LabeledTexts
from finetune_trainer.objectives.pairs import Pairs
from finetune_trainer.objectives.ratings import Ratings


@dataclass(frozen=True)
class Rows:
    examples: Examples | Packed | Wrapped | Pairs | LabeledTexts
    why: str
    """The examples are what they are."""

    @property
    def packed(self) -> Packed | Wrapped | None:
        """Where a row is several records."""
        if isinstance(self.examples, Wrapped):
            return self.examples if self.examples.joined else None
        return self.examples if isinstance(self.examples, Packed) else None


def training_rows(
    config: RunConfig, places: Places, train: Examples, channel: Channel, agreement: Agreement, heart: Heart
) -> Rows:
    """Equal on every rank. `channel` names the checkpoint on rank 0's pod only; the others are told."""
    kind = objective_of(config.spec).type
    answers = _answers(config.spec, train)
    if isinstance(answers, LabeledTexts):
        return Rows(answers, "labeled texts do not share rows")
    if answers is not None:
        return Rows(answers, f"{'rated' if isinstance(answers, Ratings) else 'pairs of'} answers do not share rows")
    found = channel.resume()
    began = read_position(Path(found["folder"])).packed if found else None
    settings = objective_of(config.spec).distill
    if settings and settings.top_k:
        return Rows(train, "a teacher's answers are found by record")
    if policy_of(config.spec):
        return Rows(train, "prompts that are answered in training do not share rows")
    method = config.spec.method.type
    types = [model_type(places.model), *([model_type(places.teacher)] if teacher_of(config.spec) else [])]
    rule = pack_rule(
        config.spec.data.packing,
        began,
        next((name for name in types if name not in ISOLATING), types[0]),
        method=None if METHODS[method].packs else method.value,
        ordered=config.spec.data.curriculum is not None,
    )
    joined = bool(agreement.tell(int(rule.packed)))
    length = config.spec.data.max_length
    if kind is ObjectiveType.PRETRAIN:
        return Rows(Wrapped(train, length, join=joined), rule.why)
    if joined:
        return Rows(pack(train, length, places.data, lambda _records: heart.beat()), rule.why)
    return Rows(train, rule.why)


def held_out_rows(spec: FineTuneJobSpec, records: Examples) -> Any:
    """Records as they are evaluated: never sharing rows, so that a loss does not depend on who is beside whom."""
    kind = objective_of(spec).type
    answers = _answers(spec, records)
    if answers is not None:
        return answers
    if kind is ObjectiveType.PRETRAIN:
        return Wrapped(records, spec.data.max_length, join=False)
    return records


def _answers(spec: FineTuneJobSpec, records: Examples) -> Pairs | LabeledTexts | None:
    """As objectives see them that judge texts; None with those that write them."""
    match objective_of(spec).type:
        case ObjectiveType.DPO | ObjectiveType.REWARD:
            return Pairs(records)
        case ObjectiveType.KTO:
            return Ratings(records, spec.data.max_length)
        case ObjectiveType.CLASSIFICATION:
            return LabeledTexts(records)
    return None
