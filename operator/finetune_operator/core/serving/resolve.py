"""Which model the spec wants now, or in words what it waits for.

A FineTuneJob may be cleaned away once its model is served. That is no reason to stop serving it, and none to go back to
an older job's: what is served or being let in stays wanted until a job that finished later says otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from finetune_api.deployment_status import ModelDeploymentStatus, ModelSource
from finetune_api.modeldeployment import ModelDeploymentSpec
from finetune_api.objective import ObjectiveType
from finetune_api.running import SecretRef
from finetune_api.status import Phase
from finetune_operator.core.names import Reason
from finetune_operator.core.objects import condition, labels_of, name_of
from finetune_operator.core.selectors import in_words, matches
from finetune_operator.core.types import Config, Obj

_SHOWN = 3
_FULL = "FullFineTune"


@dataclass(frozen=True)
class Waiting:
    """Nothing can be chosen yet; what is served stays."""

    reason: str
    message: str


@dataclass(frozen=True)
class _Kept:
    """The model in use whose FineTuneJob may be gone, and since when it is in use."""

    model: ModelSource
    since: str | None


def resolve(spec: ModelDeploymentSpec, md: Obj, fine_tune_jobs: Sequence[Obj], config: Config) -> ModelSource | Waiting:
    model = spec.model
    namespace = md["metadata"]["namespace"]
    if model.uri is not None:
        if model.uri.startswith("file://"):
            return Waiting(
                Reason.LOCAL_ONLY,
                f"spec.model.uri: {model.uri} is a path on one machine, no pod can read it; use s3:// or pvc://",
            )
        return ModelSource(uri=model.uri, secret=secret_for(model.uri, model.secret_ref, namespace, config))
    jobs = {name_of(job): job for job in fine_tune_jobs}
    if model.fine_tune_job_ref is not None:
        return _referenced(model.fine_tune_job_ref.name, md, jobs, config)
    if model.fine_tune_job_selector is not None:
        selector = model.fine_tune_job_selector.to_wire()
        return _newest(selector, md, {n: j for n, j in jobs.items() if matches(selector, labels_of(j))}, jobs, config)
    return Waiting(Reason.INVALID_SPEC, "spec.model: set one of uri, fineTuneJobRef, fineTuneJobSelector")


def secret_for(uri: str, ref: SecretRef | None, namespace: str, config: Config) -> str | None:
    """The Secret that reads this URI: the one named, else the installation's in its own place of this namespace."""
    if ref is not None:
        return ref.name
    if not config.artifacts_uri or not config.artifacts_secret:
        return None
    home = f"{config.artifacts_uri.rstrip('/')}/{namespace}"
    return config.artifacts_secret if uri == home or uri.startswith(f"{home}/") else None


def _referenced(name: str, md: Obj, jobs: dict[str, Obj], config: Config) -> ModelSource | Waiting:
    job = jobs.get(name)
    if job is None:
        kept = _kept(md, config)
        if kept is not None and kept.model.job == name:
            return kept.model
        return Waiting(
            Reason.WAITING_FOR_JOB,
            f"waiting for FineTuneJob {name}: there is none in namespace {md['metadata']['namespace']}",
        )
    if _phase(job) == Phase.SUCCEEDED:
        return _output(job, config)
    if _phase(job) == Phase.FAILED:
        return Waiting(Reason.JOB_FAILED, f"FineTuneJob {name} {_state(job)}; nothing new is served until it publishes")
    return Waiting(Reason.WAITING_FOR_JOB, f"waiting for FineTuneJob {name}: {_state(job)}")


def _newest(
    selector: dict[str, Any], md: Obj, matching: dict[str, Obj], jobs: dict[str, Obj], config: Config
) -> ModelSource | Waiting:
    done = sorted((_completed(j), n) for n, j in matching.items() if _phase(j) == Phase.SUCCEEDED)
    kept = _kept(md, config)
    if kept is not None and kept.model.job not in jobs and kept.since is not None:
        done = [(at, name) for at, name in done if at > kept.since]
        if not done:
            return kept.model
    if done:
        return _output(matching[done[-1][1]], config)
    words = f"waiting for a FineTuneJob that matches {in_words(selector)} to succeed: "
    if not matching:
        return Waiting(Reason.WAITING_FOR_JOB, f"{words}there is none in namespace {md['metadata']['namespace']}")
    shown = [f"{name}: {_state(matching[name])}" for name in sorted(matching)[:_SHOWN]]
    more = f"; and {len(matching) - _SHOWN} more" if len(matching) > _SHOWN else ""
    return Waiting(Reason.WAITING_FOR_JOB, words + "; ".join(shown) + more)


def _output(job: Obj, config: Config) -> ModelSource | Waiting:
    name = name_of(job)
    output = (job.get("status") or {}).get("output") or {}
    if not output.get("uri") or not output.get("digest"):
        return Waiting(Reason.WAITING_FOR_JOB, f"FineTuneJob {name} Succeeded, but its status names no output yet")
    objective = ((job.get("spec") or {}).get("objective") or {}).get("type")
    if objective == ObjectiveType.CLASSIFICATION:
        return Waiting(
            Reason.CLASSIFIER_NOT_SERVABLE,
            f"FineTuneJob {name} published a classifier, which sorts texts and writes none; "
            "name a job of another objective.type",
        )
    if objective == ObjectiveType.REWARD:
        return Waiting(
            Reason.REWARD_NOT_SERVABLE,
            f"FineTuneJob {name} published a reward model, which scores texts and writes none; "
            "name a job of another objective.type",
        )
    method = ((job.get("spec") or {}).get("method") or {}).get("type")
    if not output.get("merged") and method != _FULL:
        return Waiting(
            Reason.ADAPTER_NOT_SERVABLE,
            f"FineTuneJob {name} published an adapter, which cannot be served alone; "
            "publish the merged model with output.merge: true",
        )
    return ModelSource(uri=output["uri"], digest=output["digest"], secret=_output_secret(job, config), job=name)


def _output_secret(job: Obj, config: Config) -> str | None:
    """The one its publish pod wrote with, as `RunConfig.output_secret` finds it."""
    spec = job.get("spec") or {}
    output = spec.get("output") or {}
    if output.get("secretRef"):
        return str(output["secretRef"]["name"])
    if output.get("uri"):
        return None
    if config.artifacts_uri:
        return config.artifacts_secret or None
    named = ((spec.get("checkpoint") or {}).get("secretRef") or {}).get("name")
    return str(named) if named else None


def _kept(md: Obj, config: Config) -> _Kept | None:
    try:
        status = ModelDeploymentStatus.model_validate(md.get("status") or {})
    except ValidationError:
        return None
    if status.rollout is not None and status.rollout.model.job is not None and status.rollout.model.digest is not None:
        return _Kept(status.rollout.model, status.rollout.started_at)
    stable = status.stable
    if stable is None or stable.job is None:
        return None
    promoted = [h.started_at for h in status.history if h.revision == stable.revision and h.outcome == "Promoted"]
    secret = secret_for(stable.model, None, md["metadata"]["namespace"], config)
    source = ModelSource(uri=stable.model, digest=stable.digest, secret=secret, job=stable.job)
    return _Kept(source, max(promoted, default=None))


def _phase(job: Obj) -> str:
    return str((job.get("status") or {}).get("phase") or Phase.PENDING)


def _state(job: Obj) -> str:
    """`Running, 420/1000 42%`, `Failed (GateFailed): perplexity …`."""
    status = job.get("status") or {}
    phase = _phase(job)
    summary = (status.get("progress") or {}).get("summary")
    if phase == Phase.RUNNING and summary:
        return f"{phase}, {summary}"
    reason, message = status.get("reason"), status.get("message")
    if phase == Phase.RUNNING or not (reason or message):
        return phase
    words = f"{phase} ({reason})" if reason and reason != phase else phase
    return f"{words}: {message}" if message else words


def _completed(job: Obj) -> str:
    entry = condition(job, "Complete") or {}
    return str(entry.get("lastTransitionTime") or job["metadata"].get("creationTimestamp") or "")
