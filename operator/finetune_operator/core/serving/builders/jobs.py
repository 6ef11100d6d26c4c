"""The two Jobs of a rollout, both of the small image with the tenant's credentials: `verify` reads the model's
manifest before anything is started for it, `check` asks the candidate's engines before they get any request.

A Job answers by its termination message and is deleted by the plan once that was read. Secrets are optional mounts: a
missing one ends in words, not in a pod that never starts.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from finetune_api.deployment_status import ModelSource, RevisionRecord
from finetune_api.modeldeployment import ModelDeploymentSpec
from finetune_api.running import SecretRef
from finetune_api.serveconfig import CheckTargets, QualityCheck, ServeConfig
from finetune_api.serving import ServingResources
from finetune_operator.core.builders.attempt import pod_failure_policy
from finetune_operator.core.builders.restricted import (
    claim_volumes,
    claims_in,
    container_security,
    identify,
    pod_spec,
    run_config_annotation,
    run_config_mount,
    run_config_volume,
    secret_volumes,
    work_env,
    work_volumes,
)
from finetune_operator.core.names import CONTAINER, ROLE_CHECKER, ROLE_VERIFIER, checker_job, verifier_job
from finetune_operator.core.serving.builders.common import serving_labels, serving_metadata
from finetune_operator.core.serving.builders.engine import SMALL_RESOURCES, service_url
from finetune_operator.core.serving.resolve import secret_for
from finetune_operator.core.types import JOBS, Config, Obj

VERIFY_SECONDS = 600.0
CHECK_SECONDS = 1800.0
START_SECONDS = 600
"""What scheduling and pulling may take on top, before the Job itself gives up."""
GRACE_SECONDS = 5


def build_verifier(md: Obj, spec: ModelDeploymentSpec, source: ModelSource, key: str, config: Config) -> dict[str, Any]:
    meta = md["metadata"]
    told = ServeConfig(
        namespace=meta["namespace"],
        name=meta["name"],
        model_uri=source.uri,
        secret=source.secret,
        expected_digest=source.digest,
        require_gate=spec.model.require_gate,
        deadline_seconds=VERIFY_SECONDS,
    )
    return _job(
        md,
        spec,
        config,
        name=verifier_job(meta["name"], key),
        role=ROLE_VERIFIER,
        revision=None,
        command="verify",
        told=told,
        secrets=[source.secret],
        uris=[source.uri],
    )


def build_checker(
    md: Obj, spec: ModelDeploymentSpec, record: RevisionRecord, stable: RevisionRecord | None, config: Config
) -> dict[str, Any]:
    meta = md["metadata"]
    quality = _quality(spec, meta["namespace"], config)
    told = ServeConfig(
        namespace=meta["namespace"],
        name=meta["name"],
        revision=record.revision,
        model_uri=record.model.uri,
        secret=record.model.secret,
        expected_digest=record.model.digest,
        require_gate=spec.model.require_gate,
        check=CheckTargets(
            candidate_url=service_url(md, record.revision, config),
            candidate_name=record.served_name,
            stable_url=service_url(md, stable.revision, config) if stable else None,
            stable_name=stable.served_name if stable else None,
            prompts=spec.rollout.verify.prompts,
            max_logprob_delta=spec.rollout.verify.max_logprob_delta,
            quality=quality,
        ),
        deadline_seconds=CHECK_SECONDS,
    )
    refs = [entry.data.secret_ref for entry in quality]
    return _job(
        md,
        spec,
        config,
        name=checker_job(meta["name"], record.revision),
        role=ROLE_CHECKER,
        revision=record.revision,
        command="check",
        told=told,
        secrets=[record.model.secret, *(ref.name for ref in refs if ref)],
        uris=[record.model.uri, *(entry.data.uri for entry in quality)],
    )


def _quality(spec: ModelDeploymentSpec, namespace: str, config: Config) -> list[QualityCheck]:
    """The checks, each with the Secret that reads its prompts."""
    out = []
    for entry in spec.rollout.analysis.quality:
        secret = secret_for(entry.data.uri, entry.data.secret_ref, namespace, config)
        data = entry.data.model_copy(update={"secret_ref": SecretRef(name=secret) if secret else None})
        out.append(
            QualityCheck(
                data=data,
                metric=entry.metric,
                min_delta=entry.min_delta,
                min=entry.min,
                max_tokens=entry.max_tokens,
            )
        )
    return out


def _job(
    md: Obj,
    spec: ModelDeploymentSpec,
    config: Config,
    *,
    name: str,
    role: str,
    revision: str | None,
    command: str,
    told: ServeConfig,
    secrets: Iterable[str | None],
    uris: Iterable[str],
) -> dict[str, Any]:
    work, work_mounts = work_volumes(None)
    secret, secret_mounts = secret_volumes(sorted({s for s in secrets if s}), optional=True)
    claims, claim_mounts = claim_volumes(claims_in(uris), read_only=True)
    container = {
        "name": CONTAINER,
        "image": config.small_image,
        "imagePullPolicy": config.image_pull_policy,
        "command": ["python", "-m", "finetune_trainer", command],
        "env": work_env(),
        "resources": SMALL_RESOURCES,
        "volumeMounts": [run_config_mount(), *work_mounts, *secret_mounts, *claim_mounts],
        "securityContext": container_security(),
    }
    pod = pod_spec([container], [run_config_volume(), *work, *secret, *claims], grace_seconds=GRACE_SECONDS)
    pod["restartPolicy"] = "Never"
    identify(pod, spec.resources or ServingResources())
    return {
        "apiVersion": JOBS.api_version,
        "kind": JOBS.kind,
        "metadata": serving_metadata(md, name, role, revision),
        "spec": {
            "backoffLimit": 0,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": pod_failure_policy(),
            "activeDeadlineSeconds": int(told.deadline_seconds) + START_SECONDS,
            "template": {
                "metadata": {
                    "labels": serving_labels(md, role, revision),
                    "annotations": run_config_annotation(told),
                },
                "spec": pod,
            },
        },
    }
