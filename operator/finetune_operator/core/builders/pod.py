"""What all our pods have in common: restricted, tokenless, their run config as a mounted annotation.

The run config travels in the pod template itself (annotation plus downward API volume), so a Job and its config are one
write that cannot come apart.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.runconfig import (
    CONFIG_PATH,
    PORT,
    PVC_DIR,
    SCRATCH_DIR,
    SECRETS_DIR,
    RunConfig,
)
from finetune_api.running import Resources
from finetune_operator.core.names import (
    ANNOTATION_RUN_CONFIG,
    API_VERSION,
    CONTAINER,
    KIND_JOB,
    LABEL_JOB,
    LABEL_MANAGED_BY,
    LABEL_ROLE,
    MANAGER,
)
from finetune_operator.core.types import Config, Obj

NON_ROOT = 65532


def owner_reference(job: Obj, *, controller: bool = True) -> dict[str, Any]:
    ref: dict[str, Any] = {
        "apiVersion": API_VERSION,
        "kind": KIND_JOB,
        "name": job["metadata"]["name"],
        "uid": job["metadata"]["uid"],
    }
    if controller:
        ref |= {"controller": True, "blockOwnerDeletion": True}
    return ref


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
    refs = [spec.model.secret_ref, spec.checkpoint.secret_ref, spec.output.secret_ref]
    refs += [source.secret_ref for source in (*spec.data.train, *(spec.data.validation.sources or ()))]
    names = {ref.name for ref in refs if ref is not None}
    if config.artifacts_secret and config.artifacts_uri:
        names.add(config.artifacts_secret)
    return sorted(names)


def claims_of(spec: FineTuneJobSpec, config: Config) -> list[str]:
    """Every PersistentVolumeClaim a pvc:// URI of the spec or the installation names, sorted."""
    uris: list[str | None] = [spec.model.uri, spec.checkpoint.uri, spec.output.uri, config.artifacts_uri]
    uris += [source.uri for source in (*spec.data.train, *(spec.data.validation.sources or ()))]
    return sorted({uri[len("pvc://") :].split("/", 1)[0] for uri in uris if uri and uri.startswith("pvc://")})


def run_config_volume() -> dict[str, Any]:
    return {
        "name": "run-config",
        "downwardAPI": {
            "items": [
                {
                    "path": CONFIG_PATH.rsplit("/", 1)[1],
                    "fieldRef": {"fieldPath": f"metadata.annotations['{ANNOTATION_RUN_CONFIG}']"},
                }
            ]
        },
    }


def _volumes(
    secrets: Iterable[str], claims: Iterable[str], shared_memory: int | str, *, optional_secrets: bool
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    volumes: list[dict[str, Any]] = [
        run_config_volume(),
        {"name": "scratch", "emptyDir": {}},
        {"name": "tmp", "emptyDir": {}},
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": shared_memory}},
    ]
    mounts: list[dict[str, Any]] = [
        {"name": "run-config", "mountPath": CONFIG_PATH.rsplit("/", 1)[0], "readOnly": True},
        {"name": "scratch", "mountPath": SCRATCH_DIR},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - inside the pod, an emptyDir of its own
        {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108
    ]
    for number, secret in enumerate(secrets):
        volumes.append(
            {
                "name": f"secret-{number}",
                "secret": {"secretName": secret, "defaultMode": 0o440, "optional": optional_secrets},
            }
        )
        mounts.append({"name": f"secret-{number}", "mountPath": f"{SECRETS_DIR}/{secret}", "readOnly": True})
    for number, claim in enumerate(claims):
        volumes.append({"name": f"claim-{number}", "persistentVolumeClaim": {"claimName": claim}})
        mounts.append({"name": f"claim-{number}", "mountPath": f"{PVC_DIR}/{claim}"})
    return volumes, mounts


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
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": grace_seconds,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": NON_ROOT,
            "runAsGroup": NON_ROOT,
            "fsGroup": NON_ROOT,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {
                "name": CONTAINER,
                "image": image,
                "imagePullPolicy": config.image_pull_policy,
                "args": args,
                "env": [
                    {"name": "HOME", "value": SCRATCH_DIR},
                    {"name": "HF_HUB_OFFLINE", "value": "1"},
                    {"name": "PYTHONUNBUFFERED", "value": "1"},
                    *(entry.to_wire() for entry in where.env or ()),
                ],
                "ports": [{"name": "finetune", "containerPort": PORT}],
                "resources": resources,
                "volumeMounts": mounts,
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
            }
        ],
        "volumes": volumes,
    }
    if where.service_account_name:
        pod["serviceAccountName"] = where.service_account_name
    if where.image_pull_secrets:
        pod["imagePullSecrets"] = [ref.to_wire() for ref in where.image_pull_secrets]
    if spec.scheduling.priority_class_name:
        pod["priorityClassName"] = spec.scheduling.priority_class_name
    if accelerated:
        _place(pod, where)
    return {
        "metadata": {
            "labels": {
                LABEL_MANAGED_BY: MANAGER,
                LABEL_JOB: job["metadata"]["name"],
                LABEL_ROLE: role,
                **labels,
            },
            "annotations": {
                ANNOTATION_RUN_CONFIG: json.dumps(run_config.to_wire(), separators=(",", ":"), sort_keys=True)
            },
        },
        "spec": pod,
    }


def _place(pod: dict[str, Any], where: Resources) -> None:
    if where.node_selector:
        pod["nodeSelector"] = dict(where.node_selector)
    if where.tolerations:
        pod["tolerations"] = [entry.to_wire() for entry in where.tolerations]
    if where.scheduler_name:
        pod["schedulerName"] = where.scheduler_name
    if where.runtime_class_name:
        pod["runtimeClassName"] = where.runtime_class_name
