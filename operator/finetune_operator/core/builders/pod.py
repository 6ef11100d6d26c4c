"""The pods of a FineTuneJob: what the job asks for, around what every pod of ours has in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.inputs import inputs
from finetune_api.runconfig import PORT, RunConfig
from finetune_operator.core.builders.restricted import (
    Entries,
    claim_volumes,
    claims_in,
    container_security,
    identify,
    owner_reference,
    place,
    pod_spec,
    run_config_annotation,
    run_config_mount,
    run_config_volume,
    secret_volumes,
    work_env,
    work_volumes,
)
from finetune_operator.core.names import CONTAINER, LABEL_JOB, LABEL_MANAGED_BY, LABEL_ROLE, MANAGER
from finetune_operator.core.types import Config, Obj


def metadata(
    job: Obj, name: str, role: str, labels: Mapping[str, str] | None = None, *, owned: bool = True
) -> dict[str, Any]:
    """Metadata of a child in the job's namespace."""
    return {
        "name": name,
        "namespace": job["metadata"]["namespace"],
        "labels": {
            LABEL_MANAGED_BY: MANAGER,
            LABEL_JOB: job["metadata"]["name"],
            LABEL_ROLE: role,
            **(labels or {}),
        },
        "ownerReferences": [owner_reference(job)] if owned else [],
    }


def secrets_of(spec: FineTuneJobSpec, config: Config) -> list[str]:
    """Every Secret the pods of this job mount, sorted."""
    refs = [spec.checkpoint.secret_ref, spec.output.secret_ref, *(stored.secret_ref for stored in inputs(spec))]
    if spec.tracking:
        refs += [to.secret_ref for to in (spec.tracking.mlflow, spec.tracking.wandb) if to]
    names = {ref.name for ref in refs if ref is not None}
    if config.artifacts_secret and config.artifacts_uri:
        names.add(config.artifacts_secret)
    return sorted(names)


def claims_of(spec: FineTuneJobSpec, config: Config) -> list[str]:
    """Every PersistentVolumeClaim a pvc:// URI of the spec or the installation names, sorted."""
    places = [spec.checkpoint.uri, spec.output.uri, config.artifacts_uri]
    return claims_in([*places, *(stored.uri for stored in inputs(spec))])


def _volumes(
    secrets: Iterable[str], claims: Iterable[str], shared_memory: int | str, *, optional_secrets: bool
) -> tuple[Entries, Entries]:
    parts = (
        ([run_config_volume()], [run_config_mount()]),
        work_volumes(shared_memory),
        secret_volumes(secrets, optional=optional_secrets),
        claim_volumes(claims),
    )
    return [v for volumes, _ in parts for v in volumes], [m for _, mounts in parts for m in mounts]


def pod_template(
    job: Obj,
    spec: FineTuneJobSpec,
    run_config: RunConfig,
    config: Config,
    *,
    role: str,
    labels: Mapping[str, str],
    image: str,
    args: list[str],
    resources: dict[str, Any],
    grace_seconds: int,
    optional_secrets: bool = False,
    accelerated: bool = True,
) -> dict[str, Any]:
    """Metadata and spec of a pod. `accelerated`: it goes where the job's GPUs are (selectors, tolerations, runtime)."""
    where = spec.resources
    volumes, mounts = _volumes(
        secrets_of(spec, config), claims_of(spec, config), where.shared_memory, optional_secrets=optional_secrets
    )
    container = {
        "name": CONTAINER,
        "image": image,
        "imagePullPolicy": config.image_pull_policy,
        "args": args,
        "env": [*work_env(), *(entry.to_wire() for entry in where.env or ())],
        "ports": [{"name": "finetune", "containerPort": PORT}],
        "resources": resources,
        "volumeMounts": mounts,
        "securityContext": container_security(),
    }
    pod = pod_spec([container], volumes, grace_seconds=grace_seconds) | {"restartPolicy": "Never"}
    identify(pod, where)
    if spec.scheduling.priority_class_name:
        pod["priorityClassName"] = spec.scheduling.priority_class_name
    if accelerated:
        place(pod, where)
    return {
        "metadata": {
            "labels": {
                LABEL_MANAGED_BY: MANAGER,
                LABEL_JOB: job["metadata"]["name"],
                LABEL_ROLE: role,
                **labels,
            },
            "annotations": run_config_annotation(run_config),
        },
        "spec": pod,
    }
