"""What happens to a trained model before others get it: evaluated, gated, merged, asked in its engine, uploaded."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from finetune_api.base import ApiModel, Decimal, Duration, Uri, cel, rules
from finetune_api.running import EnvVar, ResourceMap, SecretRef


class Metric(StrEnum):
    LOSS = "loss"
    PERPLEXITY = "perplexity"
    EXACT_MATCH = "exactMatch"
    PREFERENCE_ACCURACY = "preferenceAccuracy"
    REWARD_MARGIN = "rewardMargin"
    DIVERGENCE = "divergence"
    RATING_ACCURACY = "ratingAccuracy"
    ACCURACY = "accuracy"
    F1 = "f1"
    REWARD = "reward"


class Gate(ApiModel):
    """One condition on the final artefact. `max` and `min` are absolute; `relativeTo: Base` asks that the metric is
    not worse than the base model's by more than `tolerance` (in the metric's own unit)."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            cel(
                "has(self.max) || has(self.min) || has(self.relativeTo)",
                "set at least one of max, min, relativeTo",
            ),
            cel("!has(self.tolerance) || has(self.relativeTo)", "tolerance belongs to relativeTo"),
        )
    )

    metric: Metric
    max: Decimal | None = None
    min: Decimal | None = None
    relative_to: Literal["Base"] | None = None
    tolerance: Decimal | None = None


class GenerationSamples(ApiModel):
    """Greedy decoding of held-out prompts, for exactMatch."""

    count: Annotated[int, Field(ge=0, le=10_000, description="Prompts to decode; 0 turns exactMatch off.")] = 64
    max_new_tokens: Annotated[int, Field(ge=1, le=8192)] = 64


class OnGateFailure(StrEnum):
    BLOCK = "Block"
    WARN = "Warn"


class Evaluation(ApiModel):
    interval_steps: (
        Annotated[
            int,
            Field(
                ge=1,
                description="Held-out loss during training every so many steps (progress.evalLoss), besides at each "
                "checkpoint. Unset: once an epoch where earlyStopping or keep.best need it.",
            ),
        ]
        | None
    ) = None
    perplexity: Annotated[bool, Field(description="Held-out loss and perplexity, for base and final model.")] = True
    samples: GenerationSamples = GenerationSamples()
    gate: Annotated[list[Gate], Field(max_length=16)] = []
    on_gate_failure: OnGateFailure = OnGateFailure.BLOCK


class PublishedCheckpoint(StrEnum):
    LAST = "Last"
    BEST = "Best"


class Average(ApiModel):
    last_k: Annotated[
        int,
        Field(ge=2, le=20, description="Of the run's last committed checkpoints; needs checkpoint.keep.last at least."),
    ]


class Output(ApiModel):
    uri: Annotated[Uri, Field(description="Unset: <run directory>/model.")] | None = None
    secret_ref: SecretRef | None = None
    checkpoint: (
        Annotated[
            PublishedCheckpoint,
            Field(
                description="Which one is published: the last, or (with checkpoint.keep.best) the one of the lowest "
                "held-out loss during training. Last when unset."
            ),
        ]
        | None
    ) = None
    average: (
        Annotated[
            Average,
            Field(description="Publishes the mean of the last checkpoints' weights instead of the last one's."),
        ]
        | None
    ) = None
    merge: Annotated[
        bool, Field(description="Merge the adapter into the base weights, where the method can be merged.")
    ] = True


class PublishResources(ApiModel):
    gpus: Annotated[int, Field(ge=0, le=64)] | None = None
    requests: ResourceMap | None = None
    limits: ResourceMap | None = None


class ServedCheck(ApiModel):
    """The published folder is loaded in the image that will serve it, and must give the trainer's log-probabilities on
    fixed prompts. A failure counts like a failed gate."""

    enabled: (
        Annotated[
            bool,
            Field(description="Unset: wherever there is a serving image. An adapter (output.merge: false) is skipped."),
        ]
        | None
    ) = None
    image: (
        Annotated[
            str,
            Field(
                min_length=1,
                max_length=512,
                pattern=r"^[^\s]+$",
                description="With python3 and vLLM in it. Unset: the chart's servingImage.",
            ),
        ]
        | None
    ) = None
    max_logprob_delta: (
        Annotated[
            Decimal,
            Field(
                description="Largest allowed mean difference per token, in nats, to the trainer's logprobs. "
                "Unset: 0.01 where the engine computes in float32, else 0.1."
            ),
        ]
        | None
    ) = None
    args: Annotated[
        list[Annotated[str, Field(max_length=1024)]],
        Field(max_length=64, description="Of the engine, as for `vllm serve`, for example --tensor-parallel-size=2."),
    ] = []
    env: Annotated[list[EnvVar], Field(max_length=64)] = []
    resources: Annotated[
        PublishResources, Field(description="Of the engine's container; unset: the publish pod's.")
    ] = PublishResources()
    timeout: Annotated[Duration, Field(description="From the container's start to its last answer.")] = "15m"


class Publish(ApiModel):
    resources: Annotated[PublishResources, Field(description="Of the publish pod; unset: one node of the job.")] = (
        PublishResources()
    )
    served_check: ServedCheck = ServedCheck()
