"""`FineTuneJob.spec.data`: the records to train on, and how they become rows of tokens."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from finetune_api.base import ApiModel, cel, rules
from finetune_api.storage import Stored


class DataFormat(StrEnum):
    AUTO = "Auto"
    MESSAGES = "Messages"
    ALPACA = "Alpaca"
    PROMPT_COMPLETION = "PromptCompletion"


class DataSource(Stored):
    """One JSONL file, or a prefix below which every *.jsonl file is read."""

    format: DataFormat = DataFormat.AUTO
    limit: Annotated[int, Field(ge=1, description="Read at most this many records.")] | None = None


class Validation(ApiModel):
    """Held-out records: a share of the training records by content hash, or sources of their own."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            cel("!(has(self.percent) && has(self.sources))", "set either percent or sources, not both")
        )
    )

    percent: Annotated[int, Field(ge=0, le=50)] | None = None
    sources: Annotated[list[DataSource], Field(min_length=1, max_length=16)] | None = None


class Overflow(StrEnum):
    TRUNCATE = "Truncate"
    DROP = "Drop"
    ERROR = "Error"


class Data(ApiModel):
    train: Annotated[list[DataSource], Field(min_length=1, max_length=64)]
    validation: Validation = Validation()
    max_length: Annotated[int, Field(ge=8, le=1_048_576, description="Tokens per record.")] = 2048
    on_overflow: Annotated[
        Overflow,
        Field(
            description="What happens to a record longer than maxLength. "
            "A record whose targets would be cut off entirely is dropped and counted."
        ),
    ] = Overflow.TRUNCATE
    packing: (
        Annotated[
            bool,
            Field(
                description="Whether short records share rows of maxLength tokens, each attended to by itself; "
                "globalBatchSize then counts rows. Unset: true for model types known to keep records apart, "
                "and a run that has a checkpoint goes on as it began."
            ),
        ]
        | None
    ) = None
    max_bad_records: Annotated[int, Field(ge=0, description="Malformed records to skip before the job fails.")] = 0
