"""The run config each pod gets: the spec, and what the operator resolved for this attempt."""

from __future__ import annotations

from typing import Any

from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.runconfig import RunConfig
from finetune_operator.core.types import Config, Obj


def runs_uri(job: Obj, spec: FineTuneJobSpec, config: Config) -> str:
    """`<artifacts.uri>/<namespace>/<name>`; without an installation's store, below `checkpoint.uri`."""
    root = (config.artifacts_uri or spec.checkpoint.uri or "").rstrip("/")
    meta = job["metadata"]
    return f"{root}/{meta['namespace']}/{meta['name']}"


def runs_secret(spec: FineTuneJobSpec, config: Config) -> str | None:
    if config.artifacts_uri:
        return config.artifacts_secret or None
    return spec.checkpoint.secret_ref.name if spec.checkpoint.secret_ref else None


def base_run_config(job: Obj, spec: FineTuneJobSpec, config: Config, *, digest: str, **more: Any) -> RunConfig:
    meta = job["metadata"]
    return RunConfig(
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        spec=spec,
        spec_digest=digest,
        runs_uri=runs_uri(job, spec, config),
        runs_secret=runs_secret(spec, config),
        **more,
    )
