"""What every pod we make has in common, whatever it is for: restricted, tokenless, its config a mounted annotation.

The config travels in the pod template itself (annotation plus downward API volume), so a workload and its config are
one write that cannot come apart. Secrets are only ever named.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from finetune_api.base import WireModel
from finetune_api.runconfig import CONFIG_PATH, PVC_DIR, SCRATCH_DIR, SECRETS_DIR
from finetune_api.running import Resources
from finetune_api.serving import ServingResources
from finetune_operator.core.names import ANNOTATION_RUN_CONFIG, API_VERSION, KIND_JOB
from finetune_operator.core.types import Obj

NON_ROOT = 65532
PVC_SCHEME = "pvc://"

Entries = list[dict[str, Any]]
"""Volumes, or mounts."""


def owner_reference(owner: Obj, *, kind: str = KIND_JOB, controller: bool = True) -> dict[str, Any]:
    """`kind` is given: an object out of a list does not carry its own."""
    ref: dict[str, Any] = {
        "apiVersion": API_VERSION,
        "kind": kind,
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
    }
    if controller:
        ref |= {"controller": True, "blockOwnerDeletion": True}
    return ref


def pod_spec(containers: Entries, volumes: Entries, *, grace_seconds: int) -> dict[str, Any]:
    """A pod of the restricted Pod Security Standard, without a token of any service account."""
    return {
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
        "containers": containers,
        "volumes": volumes,
    }


def container_security() -> dict[str, Any]:
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def identify(pod: dict[str, Any], where: Resources | ServingResources) -> None:
    """As whom the pod runs and pulls its images: the tenant's own."""
    if where.service_account_name:
        pod["serviceAccountName"] = where.service_account_name
    if where.image_pull_secrets:
        pod["imagePullSecrets"] = [ref.to_wire() for ref in where.image_pull_secrets]


def place(pod: dict[str, Any], where: Resources | ServingResources) -> None:
    """To where the accelerators are."""
    if where.node_selector:
        pod["nodeSelector"] = dict(where.node_selector)
    if where.tolerations:
        pod["tolerations"] = [entry.to_wire() for entry in where.tolerations]
    if where.scheduler_name:
        pod["schedulerName"] = where.scheduler_name
    if where.runtime_class_name:
        pod["runtimeClassName"] = where.runtime_class_name


def run_config_annotation(config: WireModel) -> dict[str, str]:
    return {ANNOTATION_RUN_CONFIG: json.dumps(config.to_wire(), separators=(",", ":"), sort_keys=True)}


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


def run_config_mount() -> dict[str, Any]:
    return {"name": "run-config", "mountPath": CONFIG_PATH.rsplit("/", 1)[0], "readOnly": True}


def work_volumes(shared_memory: int | str | None) -> tuple[Entries, Entries]:
    """What is writable: home and scratch, /tmp and, with a size for it, /dev/shm."""
    volumes: Entries = [{"name": "scratch", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}]
    mounts: Entries = [
        {"name": "scratch", "mountPath": SCRATCH_DIR},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - inside the pod, an emptyDir of its own
    ]
    if shared_memory is not None:
        volumes.append({"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": shared_memory}})
        mounts.append({"name": "shm", "mountPath": "/dev/shm"})  # noqa: S108
    return volumes, mounts


def work_env() -> list[dict[str, str]]:
    return [
        {"name": "HOME", "value": SCRATCH_DIR},
        {"name": "HF_HUB_OFFLINE", "value": "1"},
        {"name": "PYTHONUNBUFFERED", "value": "1"},
    ]


def secret_volumes(secrets: Iterable[str], *, optional: bool) -> tuple[Entries, Entries]:
    """`optional`: the pod starts without the Secret and says in words that it is missing."""
    volumes: Entries = []
    mounts: Entries = []
    for number, secret in enumerate(secrets):
        name = f"secret-{number}"
        volumes.append({"name": name, "secret": {"secretName": secret, "defaultMode": 0o440, "optional": optional}})
        mounts.append({"name": name, "mountPath": f"{SECRETS_DIR}/{secret}", "readOnly": True})
    return volumes, mounts


def claim_volumes(claims: Iterable[str], *, read_only: bool = False) -> tuple[Entries, Entries]:
    volumes: Entries = []
    mounts: Entries = []
    mode = {"readOnly": True} if read_only else {}
    for number, claim in enumerate(claims):
        name = f"claim-{number}"
        volumes.append({"name": name, "persistentVolumeClaim": {"claimName": claim}})
        mounts.append({"name": name, "mountPath": f"{PVC_DIR}/{claim}", **mode})
    return volumes, mounts


def claims_in(uris: Iterable[str | None]) -> list[str]:
    """Every PersistentVolumeClaim that a pvc:// URI names, sorted."""
    return sorted({uri[len(PVC_SCHEME) :].split("/", 1)[0] for uri in uris if uri and uri.startswith(PVC_SCHEME)})
