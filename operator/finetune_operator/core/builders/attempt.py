"""One attempt: an Indexed Job that is created once and never repaired.

`podFailurePolicy` does not change what happens (`backoffLimit: 0` ends the Job at the first failure anyway); it makes
the Job's condition say *why*, in case every pod is gone before the operator looks.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

from finetune_api.duration import parse_duration
from finetune_api.exitcodes import ExitCode
from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.runconfig import PORT, TOKEN_PATH
from finetune_api.status import AttemptStatus, FineTuneJobStatus, Resolved
from finetune_operator.core.builders.custom import customise
from finetune_operator.core.builders.pod import metadata, pod_template
from finetune_operator.core.builders.restricted import owner_reference
from finetune_operator.core.builders.runconfig import base_run_config
from finetune_operator.core.names import (
    GANG_SERVICE,
    LABEL_ATTEMPT,
    LABEL_JOB,
    LABEL_MANAGED_BY,
    LABEL_ROLE,
    MANAGER,
    ROLE_GANG,
    ROLE_TRAINER,
    gang_policy,
    token_secret,
)
from finetune_operator.core.types import Config, Obj

MIN_GRACE_SECONDS = 30
HOSTNAME = "kubernetes.io/hostname"


def run_token(config: Config, uid: str, attempt: int) -> str:
    """HMAC-SHA256 of the installation key over job uid and attempt: derived again when needed, read from nowhere."""
    return hmac.new(config.installation_key, f"{uid}/{attempt}".encode(), hashlib.sha256).hexdigest()


def grace_seconds(spec: FineTuneJobSpec, status: FineTuneJobStatus) -> int:
    """max(notice, 2 * (step + measured save)), at least 30 s."""
    measured = status.checkpoint.seconds if status.checkpoint else 0.0
    return int(max(parse_duration(spec.checkpoint.notice), 2 * measured, MIN_GRACE_SECONDS))


def build_token(job: Obj, attempt: AttemptStatus, config: Config) -> dict[str, Any]:
    meta = job["metadata"]
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata(
            job,
            token_secret(meta["name"], attempt.index, meta["uid"]),
            ROLE_TRAINER,
            {LABEL_ATTEMPT: str(attempt.index)},
        ),
        "immutable": True,
        "stringData": {TOKEN_PATH.rsplit("/", 1)[1]: run_token(config, meta["uid"], attempt.index)},
    }


def _resources(spec: FineTuneJobSpec) -> dict[str, Any]:
    where = spec.resources
    limits = dict(where.limits or {})
    requests = dict(where.requests or {})
    if where.gpus_per_node:
        limits[where.gpu_resource] = where.gpus_per_node
    return {k: v for k, v in (("requests", requests), ("limits", limits)) if v}


def build_attempt(
    job: Obj,
    spec: FineTuneJobSpec,
    status: FineTuneJobStatus,
    resolved: Resolved,
    attempt: AttemptStatus,
    config: Config,
) -> dict[str, Any]:
    meta = job["metadata"]
    labels = {LABEL_ATTEMPT: str(attempt.index)}
    hosts = [
        f"{attempt.job}-{i}.{GANG_SERVICE}.{meta['namespace']}.svc.{config.cluster_domain}"
        for i in range(attempt.nodes)
    ]
    grace = grace_seconds(spec, status)
    run_config = base_run_config(
        job,
        spec,
        config,
        digest=attempt.spec_digest,
        attempt=attempt.index,
        run_key=resolved.run_key,
        model_revision=resolved.model_revision,
        data_fingerprint=resolved.data_fingerprint,
        teacher_revision=resolved.teacher_revision,
        pins=resolved.pins or {},
        nodes=attempt.nodes,
        processes_per_node=attempt.processes_per_node,
        gpus_per_node=attempt.gpus_per_node,
        master_address=hosts[0],
        peers=hosts,
        micro_batch_size=attempt.micro_batch_size,
        grace_seconds=grace,
        require_checkpoint=status.checkpoint is not None,
    )
    template = pod_template(
        job,
        spec,
        run_config,
        config,
        role=ROLE_TRAINER,
        labels=labels,
        image=spec.trainer.image or resolved.image,
        args=["train"],
        resources=_resources(spec),
        grace_seconds=grace,
    )
    template["metadata"]["annotations"] |= {
        "karpenter.sh/do-not-disrupt": "true",
        "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
    }
    pod = template["spec"]
    pod["subdomain"] = GANG_SERVICE
    secret = token_secret(meta["name"], attempt.index, meta["uid"])
    pod["volumes"].append({"name": "token", "secret": {"secretName": secret, "defaultMode": 0o440}})
    pod["containers"][0]["volumeMounts"].append(
        {"name": "token", "mountPath": TOKEN_PATH.rsplit("/", 1)[0], "readOnly": True}
    )
    pod["affinity"] = _affinity(meta["name"], attempt)
    if spec.is_custom:
        customise(pod, config)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata(job, attempt.job, ROLE_TRAINER, labels),
        "spec": {
            "completionMode": "Indexed",
            "completions": attempt.nodes,
            "parallelism": attempt.nodes,
            "backoffLimit": 0,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": pod_failure_policy(),
            "template": template,
        },
    }


def pod_failure_policy() -> dict[str, Any]:
    return {
        "rules": [
            {
                "action": "FailJob",
                "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
            },
            {
                "action": "FailJob",
                "onExitCodes": {
                    "operator": "In",
                    "values": sorted(int(code) for code in ExitCode if code is not ExitCode.DONE),
                },
            },
        ]
    }


def _affinity(name: str, attempt: AttemptStatus) -> dict[str, Any]:
    affinity: dict[str, Any] = {
        "podAntiAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [
                {
                    "weight": 100,
                    "podAffinityTerm": {
                        "topologyKey": HOSTNAME,
                        "labelSelector": {"matchLabels": {LABEL_JOB: name, LABEL_ATTEMPT: str(attempt.index)}},
                    },
                }
            ]
        }
    }
    if attempt.excluded_nodes:
        affinity["nodeAffinity"] = {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [
                    {
                        "matchExpressions": [
                            {"key": HOSTNAME, "operator": "NotIn", "values": list(attempt.excluded_nodes)}
                        ]
                    }
                ]
            }
        }
    return affinity


def build_gang_service(job: Obj) -> dict[str, Any]:
    """The namespace's one headless Service: names for the pods of every gang, ready or not."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": GANG_SERVICE,
            "namespace": job["metadata"]["namespace"],
            "labels": {LABEL_MANAGED_BY: MANAGER, LABEL_ROLE: ROLE_GANG},
            "ownerReferences": [owner_reference(job, controller=False)],
        },
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {LABEL_MANAGED_BY: MANAGER, LABEL_ROLE: ROLE_TRAINER},
        },
    }


def build_gang_policy(job: Obj, config: Config) -> dict[str, Any]:
    """Who may talk to the pods of this run: its own gang, and the operator on the launcher's port."""
    name = job["metadata"]["name"]
    gang = {"matchLabels": {LABEL_MANAGED_BY: MANAGER, LABEL_JOB: name}}
    operator = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": config.namespace}},
        "podSelector": {"matchLabels": {"app.kubernetes.io/name": MANAGER}},
    }
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(job, gang_policy(name), ROLE_GANG),
        "spec": {
            "podSelector": gang,
            "policyTypes": ["Ingress"],
            "ingress": [
                {"from": [{"podSelector": gang}]},
                {"from": [operator], "ports": [{"protocol": "TCP", "port": PORT}]},
            ],
        },
    }
