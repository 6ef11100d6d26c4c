"""`FineTuneJob.spec.data.curriculum`: the order of an epoch's records, from what is easy to what is hard.

A record's place is a function of its length or of a number in a column of its own, so a resumed run and one on other
GPUs see the same batches. A packed row holds records of every kind, so it has no place in such an order.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from finetune_api.base import ApiModel, cel, rules


class CurriculumBy(StrEnum):
    LENGTH = "Length"
    COLUMN = "Column"


class CurriculumOrder(StrEnum):
    ASCENDING = "Ascending"
    DESCENDING = "Descending"


class Curriculum(ApiModel):
    """The training records of an epoch in an order instead of shuffled; equal ones are shuffled among themselves."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            cel("has(self.column) == (self.by == 'Column')", "column is set where by is Column, and only there")
        )
    )

    by: Annotated[
        CurriculumBy,
        Field(description="Length: tokens of the record, its prompt included. Column: a number in each record."),
    ]
    column: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    order: CurriculumOrder = CurriculumOrder.ASCENDING
    epochs: (
        Annotated[
            int, Field(ge=1, le=1000, description="So many epochs, from the first; later ones are shuffled. Unset: all")
        ]
        | None
    ) = None


DATA_RULES = (
    cel(
        "!has(self.curriculum) || !has(self.packing) || !self.packing",
        "rows that several records share have no place in data.curriculum: remove packing: true, or the curriculum",
    ),
)
"""Of a FineTuneJob's spec.data."""

CURRICULUM_RULES = (
    cel(
        "!has(self.data.curriculum) || !has(self.objective) || self.objective.type == 'SFT'",
        "data.curriculum has been proven with objective SFT only; remove it, or set objective.type: SFT",
        ".data",
    ),
    cel(
        "!has(self.data.curriculum) || !has(self.retention) || !has(self.retention.replay)",
        "records of retention.replay are to come all through an epoch, and have no place in data.curriculum; remove "
        "one of the two",
        ".data",
    ),
)
"""Of a FineTuneJob's spec."""
