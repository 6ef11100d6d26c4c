"""How carefully a new revision is let in: steps, checks before any traffic, analysis while traffic flows."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import ConfigDict, Field, model_validator

from finetune_api.base import ApiModel, Decimal, Duration, SignedDecimal, cel, rules
from finetune_api.data import DataSource

MANUAL = "Manual"

Pause = Annotated[
    str,
    Field(
        min_length=2,
        max_length=32,
        pattern=r"^(Manual|([0-9]+(\.[0-9]+)?(ms|s|m|h))+)$",
        description="A duration such as 5m, or Manual: wait for the annotation finetune.dev/promote.",
    ),
]


class Step(ApiModel):
    weight: Annotated[int, Field(ge=1, le=100, description="Percent of requests for the new revision.")]
    pause: Pause = "5m"


DEFAULT_STEPS = [Step(weight=5), Step(weight=25), Step(weight=50)]


class Verify(ApiModel):
    """Asked of the candidate directly, before it gets any weight. Where the published model carries reference
    logprobs of its trainer, the candidate's are compared with them as well."""

    prompts: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=4096)]],
        Field(max_length=16, description="Each must be answered."),
    ] = []
    max_logprob_delta: Annotated[
        Decimal, Field(description="Largest allowed mean difference per token, in nats, to the trainer's logprobs.")
    ] = "0.1"


class MetricName(StrEnum):
    ERROR_RATE = "ErrorRate"
    E2E_LATENCY = "E2ELatency"
    TTFT = "TTFT"
    INTER_TOKEN_LATENCY = "InterTokenLatency"  # noqa: S105 - the name of a metric
    QUEUE_TIME = "QueueTime"


class AnalysisMetric(ApiModel):
    """`max` limits the canary by itself; `maxRegressionPercent` compares it with stable. Both are sequential tests:
    looking often does not raise the rate of false alarms."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            cel("has(self.max) || has(self.maxRegressionPercent)", "set max, maxRegressionPercent or both"),
            cel("!has(self.percentile) || self.name != 'ErrorRate'", "percentile belongs to latencies"),
        )
    )

    name: MetricName
    percentile: Annotated[int, Field(ge=1, le=99, description="Of a latency; unset: 90.")] | None = None
    max: Annotated[Decimal, Field(description="Seconds; for ErrorRate a share, 0.01 is 1 %.")] | None = None
    max_regression_percent: Annotated[int, Field(ge=0, le=1000)] | None = None
    confidence_percent: Annotated[int, Field(ge=50, le=99)] = 95


class QualityMetric(StrEnum):
    EXACT_MATCH = "exactMatch"


class Quality(ApiModel):
    """Held-out prompts, answered greedily by both revisions before the candidate gets any weight."""

    data: DataSource
    metric: QualityMetric = QualityMetric.EXACT_MATCH
    min_delta: Annotated[
        SignedDecimal, Field(description="Candidate minus stable must be at least this, for example -0.02.")
    ] = "0"
    min: Annotated[Decimal, Field(description="Absolute; the only limit while there is no stable revision.")] | None = (
        None
    )
    max_tokens: Annotated[int, Field(ge=1, le=4096)] = 64


class Analysis(ApiModel):
    interval: Duration = "15s"
    min_samples: Annotated[int, Field(ge=1, le=1_000_000, description="Requests on each side.")] = 50
    max_inconclusive: Annotated[Duration, Field(description="Then the rollout is taken back.")] = "30m"
    metrics: Annotated[list[AnalysisMetric], Field(max_length=8)] = []
    quality: Annotated[list[Quality], Field(max_length=4)] = []


class Abort(ApiModel):
    scale_down_delay: Annotated[
        Duration, Field(description="A rejected revision's pods stay this long at weight 0, for a look at them.")
    ] = "0s"


class Rollout(ApiModel):
    model_config = ConfigDict(
        json_schema_extra=rules(
            cel(
                "!has(self.steps) || self.steps.all(s, self.steps.filter(t, t.weight == s.weight).size() == 1)",
                "every step needs a weight of its own",
                ".steps",
            )
        )
    )

    steps: Annotated[
        list[Step], Field(max_length=16, description="In ascending order of weight; [] goes straight to 100.")
    ] = DEFAULT_STEPS
    verify: Verify = Verify()
    analysis: Analysis = Analysis()
    max_surge: Annotated[int, Field(ge=1, le=64, description="Engine pods above replicas during a rollout.")] = 1
    progress_deadline: Annotated[Duration, Field(description="For pods to become ready; nothing else.")] = "10m"
    stall_timeout: Annotated[
        Duration, Field(description="Requests run and none ends for this long: the revision hangs.")
    ] = "60s"
    drain_timeout: Annotated[Duration, Field(description="For running requests of a revision that leaves.")] = "5m"
    abort: Abort = Abort()
    history: Annotated[int, Field(ge=0, le=20, description="Former revisions kept at 0 replicas.")] = 3

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        weights = [step.weight for step in self.steps]
        if weights != sorted(weights):
            raise ValueError(f"steps: weights must rise, they are {weights}; put the steps in ascending order")
        return self
