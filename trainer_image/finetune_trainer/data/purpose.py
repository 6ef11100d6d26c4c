"""Which records an objective can learn from; asked by preflight and by the encoder, so that both give one answer."""

from __future__ import annotations

from collections.abc import Mapping

from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.objective import ObjectiveType, objective_of
from finetune_trainer.data.parts import BadRecord
from finetune_trainer.data.records import Conversation, Document, Labeled, Preference, Rated, Record, TextPair
from finetune_trainer.data.sources import NamedSource

Kinds = tuple[type[Record], ...]

TAKES: Mapping[ObjectiveType, Kinds] = {
    ObjectiveType.SFT: (Conversation, TextPair, Document),
    ObjectiveType.PRETRAIN: (Document,),
    ObjectiveType.DPO: (Preference,),
    ObjectiveType.DISTILL: (Conversation, TextPair, Document),
    ObjectiveType.KTO: (Rated,),
    ObjectiveType.REWARD: (Preference,),
    ObjectiveType.CLASSIFICATION: (Labeled,),
    ObjectiveType.GRPO: (Conversation, TextPair),
    ObjectiveType.RLOO: (Conversation, TextPair),
    ObjectiveType.PPO: (Conversation, TextPair),
}

_WORDS: dict[type[Record], str] = {
    Conversation: "a conversation",
    TextPair: "a prompt with its completion",
    Document: "raw text",
    Preference: "a preference (chosen and rejected)",
    Rated: "a rated answer (prompt, completion and label, with format: Preference)",
    Labeled: "a labeled text (text and label, with format: Labeled)",
}


def accepted(spec: FineTuneJobSpec) -> Kinds:
    """The record types that this job's objective trains on."""
    return TAKES[objective_of(spec).type]


def accepted_from(spec: FineTuneJobSpec, named: NamedSource) -> Kinds:
    """The record types that are of use in one source: what is only read aside is texts, whatever the objective."""
    return TAKES[ObjectiveType.SFT] if named.aside else accepted(spec)


def require(record: Record, kinds: Kinds) -> None:
    """Raises BadRecord for a record that this objective has no use for."""
    if not isinstance(record, kinds):
        wanted = ", ".join(_WORDS[kind] for kind in kinds)
        raise BadRecord(
            f"this is {_WORDS[type(record)]}, which this objective cannot train on; it learns from {wanted}"
        )
