"""`FineTuneJob.spec.trainer`: our trainer, or a script of the user's own in an image of their own.

A custom script decides for itself what our trainer would have been told. What only our trainer reads is therefore
refused beside it, by a list of what does work: a field that is added later is refused until somebody makes it work.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from finetune_api.base import ApiModel, cel, rules


class TrainerType(StrEnum):
    BUILT_IN = "BuiltIn"
    CUSTOM = "Custom"


Argument = Annotated[str, Field(max_length=4096)]


class CustomTrainer(ApiModel):
    """The program of one process. It is started once per process with the environment torchrun would give it (RANK,
    LOCAL_RANK, WORLD_SIZE, MASTER_ADDR, …); torchrun itself is not needed."""

    command: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=4096)]],
        Field(min_length=1, max_length=64, description='For example ["python", "/opt/train.py"].'),
    ]
    args: Annotated[list[Argument], Field(max_length=256, description="Appended to the command.")] = []


class Trainer(ApiModel):
    model_config = ConfigDict(
        json_schema_extra=rules(
            cel(
                "!has(self.custom) || (has(self.type) && self.type == 'Custom')",
                "the custom block belongs to type Custom; remove it or set type: Custom",
            ),
            cel(
                "!has(self.type) || self.type != 'Custom' || (has(self.custom) && has(self.image))",
                "type Custom needs image, with the script in it, and custom.command",
            ),
        )
    )

    type: (
        Annotated[
            TrainerType,
            Field(description="Unset: BuiltIn. Custom runs trainer.custom.command in trainer.image."),
        ]
        | None
    ) = None
    image: (
        Annotated[str, Field(min_length=1, max_length=512, description="Unset: the chart's trainer image.")] | None
    ) = None
    custom: CustomTrainer | None = None


_BLOCKS: dict[str, frozenset[str] | None] = {
    "model": frozenset({"uri", "secretRef"}),
    "data": frozenset({"train", "validation"}),
    "trainer": None,
    "resources": None,
    "scheduling": None,
    "checkpoint": frozenset({"uri", "secretRef", "interval", "keep", "notice"}),
    "evaluation": frozenset({"gate", "onGateFailure"}),
    "output": frozenset({"uri", "secretRef"}),
    "publish": frozenset({"resources"}),
    "retry": None,
    "suspend": None,
    "retainPods": None,
    "runId": None,
}
"""What has a meaning beside a custom script, by block; None: all of it."""
_SOURCE = frozenset({"uri", "secretRef"})


def unread(wire: dict[str, Any]) -> Iterator[str]:
    """The paths in a spec (on the wire, defaults left out) that nobody would read beside `trainer.type: Custom`."""
    for block, value in wire.items():
        allowed = _BLOCKS.get(block, frozenset())
        if allowed is None:
            continue
        if not allowed:
            yield f"spec.{block}"
            continue
        yield from (f"spec.{block}.{name}" for name in value if name not in allowed)
    data = wire.get("data", {})
    validation = data.get("validation", {})
    yield from (f"spec.data.validation.{name}" for name in validation if name != "sources")
    for where, sources in (("train", data.get("train", ())), ("validation.sources", validation.get("sources") or ())):
        for index, source in enumerate(sources):
            yield from (f"spec.data.{where}[{index}].{name}" for name in source if name not in _SOURCE)
    if wire.get("resources", {}).get("estimatePolicy"):
        yield "spec.resources.estimatePolicy"
    yield from (f"spec.checkpoint.keep.{n}" for n in wire.get("checkpoint", {}).get("keep", {}) if n != "last")


def refused(wire: dict[str, Any]) -> str | None:
    """In words what does not go together in a spec with `trainer.type: Custom`; None when all is well."""
    trainer = wire["trainer"]
    if not trainer.get("image") or not trainer.get("custom"):
        return "spec.trainer: type Custom needs image (with the script in it) and custom.command"
    names = list(unread(wire))
    if not names:
        return None
    return (
        f"{', '.join(names)}: with trainer.type: Custom the script decides this, and nobody would read it here; "
        "remove it and say it in trainer.custom.args"
    )
