"""`objective.classification`: a model that sorts texts by labels, learned from texts that have theirs."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from finetune_api.base import ApiModel, PositiveDecimal, cel, rules


class Problem(StrEnum):
    SINGLE_LABEL = "SingleLabel"
    MULTI_LABEL = "MultiLabel"


def _distinct(labels: list[str]) -> list[str]:
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise ValueError(f"{twice[0]!r} stands there twice; name every label once")
    return labels


LabelName = Annotated[str, Field(min_length=1, max_length=64)]


class ClassificationSettings(ApiModel):
    """The model gets a head with one output per label in place of the one that writes."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            cel(
                "!has(self.classWeights) || self.classWeights.all(name, name in self.labels)",
                "classWeights names a label that labels does not; correct it, or add it to labels",
                ".classWeights",
            )
        )
    )

    labels: Annotated[
        list[LabelName],
        AfterValidator(_distinct),
        Field(
            min_length=2,
            max_length=256,
            description="Every label there is, in the order of the model's outputs; data that numbers its labels "
            "counts from 0 in this order.",
            json_schema_extra={"x-kubernetes-list-type": "set"},
        ),
    ]
    problem: Annotated[
        Problem,
        Field(
            description="SingleLabel: each text has exactly one (softmax and cross-entropy). MultiLabel: each text has "
            "any number of them, or none (a sigmoid per label and binary cross-entropy)."
        ),
    ] = Problem.SINGLE_LABEL
    class_weights: (
        Annotated[
            dict[LabelName, PositiveDecimal],
            Field(
                min_length=1,
                max_length=256,
                description="Of a label in the loss, 1 where it is not named: larger for what is rare or costly to "
                "miss.",
            ),
        ]
        | None
    ) = None

    @model_validator(mode="after")
    def _known(self) -> ClassificationSettings:
        unknown = [name for name in self.class_weights or {} if name not in self.labels]
        if unknown:
            raise ValueError(f"classWeights names {unknown[0]!r}, which is none of labels")
        return self
