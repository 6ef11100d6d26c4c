"""`FineTuneJob.spec.objective.distill`: a student learns to answer as a teacher would."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from finetune_api.base import ApiModel, PositiveDecimal, cel, rules
from finetune_api.storage import Stored

DEFAULT_BETA = "0.5"


class DivergenceType(StrEnum):
    FORWARD_KL = "ForwardKL"
    REVERSE_KL = "ReverseKL"
    JSD = "JSD"


class Teacher(Stored):
    """A Hugging Face model directory with the base model's vocabulary, and the credentials to read it. It is loaded
    beside the student, whole on every GPU, and never trained."""


class TopK(Stored):
    """What a teacher said of every target token, written down beforehand by `finetune teach`: files
    `top-k-*.safetensors` below `uri`, and the credentials to read them."""


class DistillSettings(ApiModel):
    """Knowledge distillation (Hinton et al. 2015): at each token that the records ask for, the student's distribution
    over the vocabulary comes nearer to the teacher's."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            cel(
                "has(self.teacher) != has(self.topK)",
                "set teacher (asked in training), or topK (its answers)",
            ),
            cel("!has(self.beta) || self.loss == 'JSD'", "beta belongs to loss: JSD; remove it, or set loss: JSD"),
        )
    )

    teacher: Teacher | None = None
    top_k: TopK | None = None
    loss: Annotated[
        DivergenceType,
        Field(
            description="ForwardKL: KL(teacher || student), the student covers all that the teacher would say. "
            "ReverseKL: KL(student || teacher), it keeps to what the teacher finds likeliest. JSD: between "
            "the two, by beta."
        ),
    ] = DivergenceType.FORWARD_KL
    beta: (
        Annotated[
            str,
            Field(
                max_length=24,
                pattern=r"^0\.[0-9]*[1-9][0-9]*$",
                description="Of JSD, between 0 and 1: the teacher's share of the mixture that both are compared with; "
                f"near 0 it is ForwardKL, near 1 ReverseKL. Unset: {DEFAULT_BETA}.",
            ),
        ]
        | None
    ) = None
    temperature: Annotated[
        PositiveDecimal,
        Field(
            description="Both models' logits are divided by it before they are compared; above 1 more is told of what "
            "the teacher finds unlikely. The loss is not multiplied by its square."
        ),
    ] = "1"
    weight: Annotated[
        str,
        Field(
            min_length=1,
            max_length=24,
            pattern=r"^(0\.[0-9]*[1-9][0-9]*|1(\.0*)?)$",
            description="Of the divergence in the loss, above 0 and at most 1; the rest is that of SFT on the records' "
            "own tokens.",
        ),
    ] = "1"

    @property
    def teacher_share(self) -> float:
        """beta as Agarwal et al. 2023 ("On-Policy Distillation", equation 1) have it: 0 is ForwardKL, 1 ReverseKL."""
        ends = {DivergenceType.FORWARD_KL: 0.0, DivergenceType.REVERSE_KL: 1.0}
        return ends.get(self.loss, float(self.beta or DEFAULT_BETA))
