"""`FineTuneJob.spec.tracking`: where else a run's numbers are written; whatever happens there, training goes on."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from finetune_api.base import ApiModel, cel, rules
from finetune_api.running import SecretRef

ServerUri = Annotated[str, Field(min_length=8, max_length=1024, pattern=r"^https?://[^\s@]+$")]
Label = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^\s/\\#?%:]([^/\\#?%:]*[^\s/\\#?%:])?$")]


class MLflow(ApiModel):
    """An MLflow tracking server. The Secret's keys: MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and
    MLFLOW_TRACKING_PASSWORD."""

    uri: Annotated[ServerUri, Field(description="Of the server; no user or password in it.")]
    experiment: (
        Annotated[
            str, Field(min_length=1, max_length=256, description="Made when it is not there. Unset: the namespace.")
        ]
        | None
    ) = None
    secret_ref: SecretRef | None = None


class WandbMode(StrEnum):
    ONLINE = "Online"
    OFFLINE = "Offline"


class Wandb(ApiModel):
    """Weights & Biases. The Secret's key: WANDB_API_KEY."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            cel(
                "self.mode == 'Offline' || has(self.secretRef)",
                "mode Online needs secretRef, a Secret with WANDB_API_KEY; name one, or set mode: Offline",
            )
        )
    )

    project: Label
    entity: Label | None = None
    mode: Annotated[
        WandbMode,
        Field(description="Offline: files below attempts/<n>/wandb of the run directory, for `wandb sync`."),
    ] = WandbMode.ONLINE
    uri: Annotated[ServerUri, Field(description="Of a server of your own. Unset: wandb.ai.")] | None = None
    secret_ref: SecretRef | None = None


class Tracking(ApiModel):
    """Besides metrics.jsonl and TensorBoard files, which are always written."""

    mlflow: MLflow | None = None
    wandb: Wandb | None = None
