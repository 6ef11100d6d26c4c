"""What one row of a batch is: a record, or several that share it. Rank 0 decides: only it sees the checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from finetune_api.allowed import METHODS
from finetune_api.runconfig import RunConfig
from finetune_trainer.checkpoint.files import read_position
from finetune_trainer.common.channel import Channel, Heart
from finetune_trainer.common.places import Places
from finetune_trainer.data.dataset import Examples
from finetune_trainer.data.pack_rule import model_type, pack_rule
from finetune_trainer.data.packed import Packed, pack
from finetune_trainer.engine.agree import Agreement


@dataclass(frozen=True)
class Rows:
    examples: Examples | Packed
    why: str
    """The examples are what they are."""

    @property
    def packed(self) -> Packed | None:
        return self.examples if isinstance(self.examples, Packed) else None


def training_rows(
    config: RunConfig, places: Places, train: Examples, channel: Channel, agreement: Agreement, heart: Heart
) -> Rows:
    """Equal on every rank. `channel` names the checkpoint on rank 0's pod only; the others are told."""
    found = channel.resume()
    began = read_position(Path(found["folder"])).packed if found else None
    method = config.spec.method.type
    rule = pack_rule(
        config.spec.data.packing,
        began,
        model_type(places.model),
        method=None if METHODS[method].packs else method.value,
    )
    if agreement.tell(int(rule.packed)):
        return Rows(pack(train, config.spec.data.max_length, places.data, lambda _records: heart.beat()), rule.why)
    return Rows(train, rule.why)
