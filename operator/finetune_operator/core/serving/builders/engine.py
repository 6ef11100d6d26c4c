"""A revision's Deployment and Service. The pod template is written once, by POST; afterwards only `replicas` changes.

The pods are vLLM's public image under the restricted Pod Security Standard: an init container of the small image brings
the model with the tenant's credentials, which the engine itself never sees.
"""

from __future__ import annotations

import json
import math
from typing import Any

from pydantic import ValidationError

from finetune_api.deployment_status import RevisionRecord
from finetune_api.duration import parse_duration
from finetune_api.modeldeployment import ModelDeploymentSpec
from finetune_api.serveconfig import ENGINE_PORT, MODEL_DIR, SERVICE_PORT, ServeConfig
from finetune_api.serving import DType, Engine, ServingResources
from finetune_operator.core.builders.restricted import (
    Entries,
    claim_volumes,
    claims_in,
    container_security,
    identify,
    place,
    pod_spec,
    run_config_annotation,
    run_config_mount,
    run_config_volume,
    secret_volumes,
    work_env,
    work_volumes,
)
from finetune_operator.core.names import (
    ANNOTATION_DIGEST,
    ANNOTATION_RECORD,
    CONTAINER,
    ROLE_ENGINE,
    engine_policy,
    revision_object,
)
from finetune_operator.core.serving.builders.common import revision_labels, serving_labels, serving_metadata
from finetune_operator.core.types import DEPLOYMENTS, NETWORKPOLICIES, Config, Obj

FETCH = "fetch"
"""The init container."""
PRE_STOP_SECONDS = 10
"""Between a pod's leaving of the endpoints and its SIGTERM: a stopping vLLM refuses new requests at once, and a Gateway
may route by what it knew some seconds ago. The sleep action is on by default since Kubernetes 1.30; no shell needed."""
STOP_MARGIN_SECONDS = 20
KEEP_ALIVE_SECONDS = 3700
"""How long an idle connection stays open: longer than any proxy keeps its own (Envoy an hour, Traefik 90 s). vLLM's 5 s
would close connections just as a proxy sends a POST on them, which nobody may send again."""
GPU_RESOURCE = "nvidia.com/gpu"
SHARED_MEMORY = "2Gi"
_DTYPES = {DType.AUTO: "auto", DType.BF16: "bfloat16", DType.FP16: "float16", DType.FP32: "float32"}
_SHUTDOWN_FLAG = "--shutdown-timeout"
SMALL_RESOURCES = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}}
"""Of every container of the small image."""


def engine_image(spec: ModelDeploymentSpec, config: Config) -> str:
    """Empty when neither the spec nor the installation names one."""
    return (spec.engine.image if spec.engine else None) or config.serving_image


def no_image_message() -> str:
    return "spec.engine.image is unset and the installation has no default (servingImage in its chart); set one of them"


def service_url(md: Obj, revision: str, config: Config) -> str:
    meta = md["metadata"]
    return f"http://{revision_object(meta['name'], revision)}.{meta['namespace']}.svc.{config.cluster_domain}"


def parse_record(deployment: Obj) -> RevisionRecord | None:
    """What a revision's Deployment says of itself; None when it says nothing that can be read."""
    try:
        return RevisionRecord.model_validate_json(deployment["metadata"].get("annotations", {})[ANNOTATION_RECORD])
    except (KeyError, ValidationError):
        return None


def build_service(md: Obj, record: RevisionRecord) -> dict[str, Any]:
    name = md["metadata"]["name"]
    notes = {ANNOTATION_DIGEST: record.model.digest} if record.model.digest else None
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": serving_metadata(
            md, revision_object(name, record.revision), ROLE_ENGINE, record.revision, annotations=notes
        ),
        "spec": {
            "selector": revision_labels(name, record.revision),
            "ports": [{"name": "http", "port": SERVICE_PORT, "targetPort": ENGINE_PORT, "protocol": "TCP"}],
        },
    }


def build_engine_policy(md: Obj) -> dict[str, Any]:
    """One for the deployment's engines: their HTTP port and nothing else.

    vLLM's processes talk over further ports that know no authentication; those stay shut. The HTTP port is open to
    all, because a Gateway of the user's choice may live in any namespace.
    """
    name = md["metadata"]["name"]
    return {
        "apiVersion": NETWORKPOLICIES.api_version,
        "kind": NETWORKPOLICIES.kind,
        "metadata": serving_metadata(md, engine_policy(name), ROLE_ENGINE),
        "spec": {
            "podSelector": {"matchLabels": serving_labels(md, ROLE_ENGINE)},
            "policyTypes": ["Ingress"],
            "ingress": [{"ports": [{"protocol": "TCP", "port": ENGINE_PORT}]}],
        },
    }


def build_engine(
    md: Obj, spec: ModelDeploymentSpec, record: RevisionRecord, config: Config, replicas: int
) -> dict[str, Any]:
    name = md["metadata"]["name"]
    selector = revision_labels(name, record.revision)
    told = json.dumps(record.to_wire(), separators=(",", ":"), sort_keys=True)
    return {
        "apiVersion": DEPLOYMENTS.api_version,
        "kind": DEPLOYMENTS.kind,
        "metadata": serving_metadata(
            md,
            revision_object(name, record.revision),
            ROLE_ENGINE,
            record.revision,
            annotations={ANNOTATION_RECORD: told},
        ),
        "spec": {
            "replicas": replicas,
            "revisionHistoryLimit": 0,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "selector": {"matchLabels": selector},
            "template": {
                "metadata": {
                    "labels": selector,
                    "annotations": run_config_annotation(_serve_config(md, record)),
                },
                "spec": _pod(spec, record, config, selector),
            },
        },
    }


def _serve_config(md: Obj, record: RevisionRecord) -> ServeConfig:
    meta = md["metadata"]
    return ServeConfig(
        namespace=meta["namespace"],
        name=meta["name"],
        revision=record.revision,
        model_uri=record.model.uri,
        secret=record.model.secret,
        expected_digest=record.model.digest,
        require_gate=False,  # decided by the verifier, once per rollout; a new pod of a served model asks no more
    )


def _pod(spec: ModelDeploymentSpec, record: RevisionRecord, config: Config, selector: dict[str, str]) -> dict[str, Any]:
    where = spec.resources or ServingResources()
    drain = math.ceil(parse_duration(spec.rollout.drain_timeout))
    work, work_mounts = work_volumes(where.shared_memory or SHARED_MEMORY)
    secrets, secret_mounts = secret_volumes([record.model.secret] if record.model.secret else [], optional=True)
    claims, claim_mounts = claim_volumes(claims_in([record.model.uri]), read_only=True)
    model, model_mount = _model_volume(record.model.uri)
    engine = {
        "name": CONTAINER,
        "image": record.image,
        "imagePullPolicy": config.image_pull_policy,
        # The image's entry point has changed once already; this is the same in every version.
        "command": ["vllm", "serve"],
        "args": engine_args(spec, record, drain),
        "env": _env(spec.engine),
        "ports": [{"name": "http", "containerPort": ENGINE_PORT}],
        "resources": _resources(where),
        "volumeMounts": [*work_mounts, model_mount | {"readOnly": True}],
        "securityContext": container_security(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "lifecycle": {"preStop": {"sleep": {"seconds": PRE_STOP_SECONDS}}},
        **_probes(),
    }
    fetch = {
        "name": FETCH,
        "image": config.small_image,
        "imagePullPolicy": config.image_pull_policy,
        "command": ["python", "-m", "finetune_trainer", "fetch"],
        "env": work_env(),
        "resources": SMALL_RESOURCES,
        "volumeMounts": [run_config_mount(), *work_mounts, model_mount, *secret_mounts, *claim_mounts],
        "securityContext": container_security(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    volumes = [run_config_volume(), *work, *([model] if model else []), *secrets, *claims]
    pod = pod_spec([engine], volumes, grace_seconds=PRE_STOP_SECONDS + drain + STOP_MARGIN_SECONDS)
    pod["initContainers"] = [fetch]
    # As process 1 a starting vLLM would ignore SIGTERM until it installs its handler, up to the whole grace period.
    pod["shareProcessNamespace"] = True
    pod["topologySpreadConstraints"] = [
        {
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": selector},
        }
    ]
    identify(pod, where)
    place(pod, where)
    if where.priority_class_name:
        pod["priorityClassName"] = where.priority_class_name
    return pod


def _model_volume(uri: str) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """(volume, mount). A model on a claim is served from the claim itself: `fetch` only checks it there."""
    claims = claims_in([uri])
    if not claims:
        return {"name": "model", "emptyDir": {}}, {"name": "model", "mountPath": MODEL_DIR}
    below = "/".join(part for part in uri.split("/")[3:] if part)
    mount: dict[str, Any] = {"name": "claim-0", "mountPath": MODEL_DIR, "readOnly": True}
    return None, mount | ({"subPath": below} if below else {})


def engine_args(spec: ModelDeploymentSpec, record: RevisionRecord, drain_seconds: int) -> list[str]:
    """vLLM's command line; what the user leaves unset is left to vLLM. Weights are read as safetensors only."""
    engine = spec.engine or Engine()
    gpus = _gpus(spec.resources or ServingResources())
    flags: list[tuple[str, Any]] = [
        ("--host", "0.0.0.0"),  # noqa: S104 - inside the pod
        ("--port", ENGINE_PORT),
        ("--served-model-name", record.served_name),
        ("--load-format", "safetensors"),
        ("--max-model-len", engine.max_model_len),
        ("--dtype", _DTYPES[engine.dtype] if engine.dtype else None),
        ("--tensor-parallel-size", engine.tensor_parallel or (gpus if gpus > 1 else None)),
        ("--gpu-memory-utilization", _share(engine.gpu_memory_utilization_percent)),
    ]
    extra = list(engine.args or ())
    if not any(arg.replace("_", "-").split("=", 1)[0] == _SHUTDOWN_FLAG for arg in extra):
        flags.append((_SHUTDOWN_FLAG, drain_seconds))
    return [MODEL_DIR, *(f"{flag}={value}" for flag, value in flags if value is not None), *extra]


def _share(percent: int | None) -> str | None:
    return None if percent is None else f"{percent / 100:.2f}"


def _gpus(where: ServingResources) -> int:
    return 1 if where.gpus is None else where.gpus


def _resources(where: ServingResources) -> dict[str, Any]:
    limits = dict(where.limits or {})
    if _gpus(where):
        limits[where.gpu_resource or GPU_RESOURCE] = _gpus(where)
    return {k: v for k, v in (("requests", dict(where.requests or {})), ("limits", limits)) if v}


def _env(engine: Engine | None) -> Entries:
    """Every cache's default is below the home, which is writable; an image that brings warm caches says so by variables
    of its own, which are left alone. `USER`: torch asks for the user's name, and the image need not know ours."""
    known = {entry["name"]: entry["value"] for entry in work_env()} | {
        "USER": "vllm",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": str(KEEP_ALIVE_SECONDS),
    }
    known |= {entry.name: entry.value for entry in (engine.env if engine else None) or ()}
    return [{"name": name, "value": value} for name, value in known.items()]


def _probes() -> dict[str, Any]:
    """Readiness reacts within seconds. Nothing is killed for loading slowly: `progressDeadline` is the operator's. A
    pod whose server has answered nothing for five minutes serves nobody and is restarted; a hung engine behind a live
    server still answers /health, and is found by the analysis."""

    def health(period: int, failures: int, timeout: int) -> dict[str, Any]:
        return {
            "httpGet": {"path": "/health", "port": ENGINE_PORT},
            "periodSeconds": period,
            "failureThreshold": failures,
            "timeoutSeconds": timeout,
        }

    return {
        "startupProbe": health(2, 43_200, 2),
        "readinessProbe": health(2, 3, 5),
        "livenessProbe": health(10, 30, 10),
    }
