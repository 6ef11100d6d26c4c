"""The FineTuneJobs and ModelDeployments of a benchmark, and what their fake pods say."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import yaml

from finetune_api.exitcodes import ExitCode
from finetune_api.reports import Estimate, PreflightReport, termination_message
from finetune_api.serveconfig import CheckReport, VerifyReport
from finetune_operator.core.names import (
    CONTAINER,
    LABEL_ATTEMPT,
    LABEL_ROLE,
    ROLE_CHECKER,
    ROLE_ENGINE,
    ROLE_PREFLIGHT,
    ROLE_TRAINER,
    ROLE_VERIFIER,
)

JOBS_PER_NAMESPACE = 1000


def namespace_of(number: int) -> str:
    return f"team-{number // JOBS_PER_NAMESPACE:02d}"


def namespaces(count: int) -> list[str]:
    return sorted({namespace_of(number) for number in range(count)})


def finetunejob(number: int) -> dict[str, Any]:
    """One pod with one GPU; as much of the spec as a usual manifest has."""
    secret = {"name": "finetune-artifacts"}
    return {
        "apiVersion": "finetune.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": f"job-{number:05d}", "namespace": namespace_of(number)},
        "spec": {
            "model": {"uri": "s3://models/base", "secretRef": secret},
            "data": {
                "train": [{"uri": f"s3://data/{number}/train.jsonl", "secretRef": secret}],
                "validation": {"percent": 5},
            },
            "method": {"type": "LoRA", "lora": {"rank": 16, "alpha": 32}},
            "training": {"epochs": 2, "learningRate": "2e-4", "globalBatchSize": 64},
            "resources": {"nodes": 1, "gpusPerNode": 1, "requests": {"cpu": "10m", "memory": "16Mi"}},
            "evaluation": {"gate": [{"metric": "perplexity", "relativeTo": "Base"}]},
        },
    }


MODELS = ("s3://models/first", "s3://models/second")


def deployment_name(number: int) -> str:
    return f"bot-{number:05d}"


def modeldeployment(number: int, uri: str = MODELS[0]) -> dict[str, Any]:
    """One engine, one step. Every fake verifier reports the same digest; the seed makes another revision of it."""
    return {
        "apiVersion": "finetune.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": deployment_name(number), "namespace": namespace_of(number)},
        "spec": {
            "model": {"uri": uri, "secretRef": {"name": "finetune-artifacts"}, "requireGate": False},
            "replicas": 1,
            "engine": {"args": [f"--seed={MODELS.index(uri)}"]},
            "resources": {"gpus": 1, "requests": {"cpu": "10m", "memory": "16Mi"}},
            "traffic": {"parentRefs": [{"name": "bench"}]},
            "rollout": {"steps": [{"weight": 50, "pause": "1s"}], "drainTimeout": "30s"},
        },
    }


def verifier_words() -> str:
    report = VerifyReport(
        exit_code=0, reason="Verified", message="whole", digest="sha256:" + "2" * 64, gate_passed=True, at=_now()
    )
    return termination_message(report)


def checker_words() -> str:
    return termination_message(CheckReport(exit_code=0, reason="Checked", message="answered", at=_now()))


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def preflight_words() -> str:
    """As the preflight pod's termination message."""
    report = PreflightReport(
        exit_code=int(ExitCode.DONE),
        reason="Accepted",
        message="LoRA on 8.0 B parameters; 128 records sampled",
        run_key="0123456789abcdef",
        model_revision="sha256:" + "0" * 64,
        data_fingerprint="sha256:" + "1" * 64,
        sampled_records=128,
        estimate=Estimate(
            parameters=8_000_000_000,
            trainable_parameters=40_000_000,
            memory_per_gpu_bytes=24 << 30,
            checkpoint_bytes=480 << 20,
        ),
        at=_now(),
    )
    return termination_message(report)


_RUNNING = """
{{ $now := Now }}
conditions:
- {type: Initialized, status: "True", lastTransitionTime: {{ $now | Quote }}}
- {type: Ready, status: "True", lastTransitionTime: {{ $now | Quote }}}
- {type: ContainersReady, status: "True", lastTransitionTime: {{ $now | Quote }}}
containerStatuses:
- image: {{ (index .spec.containers 0).image | Quote }}
  name: MAIN
  ready: true
  restartCount: 0
  state: {running: {startedAt: {{ $now | Quote }}}}
{{ $ips := PodIPsWith .spec.nodeName false .metadata.uid .metadata.name .metadata.namespace }}
podIP: {{ index $ips 0 | Quote }}
podIPs:
- ip: {{ index $ips 0 | Quote }}
phase: Running
startTime: {{ $now | Quote }}
"""
_ENDED = """
{{ $now := Now }}
containerStatuses:
- image: {{ (index .spec.containers 0).image | Quote }}
  name: MAIN
  ready: false
  restartCount: 0
  state:
    terminated:
      exitCode: CODE
      reason: REASON
      message: WORDS
      startedAt: {{ $now | Quote }}
      finishedAt: {{ $now | Quote }}
phase: PHASE
"""
_NODE_READY = """
{{ $now := Now }}
conditions:
{{ range NodeConditions }}
- type: {{ .type | Quote }}
  status: {{ .status | Quote }}
  reason: {{ .reason | Quote }}
  message: {{ .message | Quote }}
  lastHeartbeatTime: {{ $now | Quote }}
  lastTransitionTime: {{ $now | Quote }}
{{ end }}
addresses:
- {type: InternalIP, address: {{ NodeIP | Quote }}}
- {type: Hostname, address: {{ NodeName | Quote }}}
"""
_SAVED_WORDS = (
    "'"
    '{"format":1,"attempt":{{ index .metadata.labels "ATTEMPT" }},"index":0,"exitCode":85,"reason":"Stopped",'
    '"message":"stopped on request, checkpoint committed","step":40,"at":"{{ Now }}"}'
    "'"
)


def kwok_stages() -> str:
    """Pods that answer run and succeed at once with a report; trainer pods run until deleted, then exit with 85;
    engines are ready at once."""
    saved = _SAVED_WORDS.replace("ATTEMPT", LABEL_ATTEMPT)
    answers = {
        ROLE_PREFLIGHT: preflight_words(),
        ROLE_VERIFIER: verifier_words(),
        ROLE_CHECKER: checker_words(),
    }
    stages = [
        _stage("node", [_not_ready()], _NODE_READY, kind="Node"),
        _stage("run", [_alive(), _is(".status.phase", "Pending")], _RUNNING.replace("MAIN", CONTAINER)),
        *(
            _stage(f"{role}-ends", [_alive(), _role(role), _is(".status.phase", "Running")], _succeeded(words))
            for role, words in answers.items()
        ),
        _stage(
            "trainer-saves",
            [_leaving(), _role(ROLE_TRAINER), _is(".status.phase", "Running")],
            _ended(int(ExitCode.STOPPED), "Error", saved, "Failed"),
        ),
        *(
            _stage(f"{role}-gone", [_leaving(), _role(role), _is(".status.phase", "Running")], None)
            for role in (*answers, ROLE_ENGINE)
        ),
        _stage("gone", [_leaving(), _is(".status.phase", "Pending", "Succeeded", "Failed")], None),
    ]
    return "---\n".join(yaml.safe_dump(stage) for stage in stages)


def _succeeded(words: str) -> str:
    return _ended(0, "Completed", "'" + words.replace("'", "''") + "'", "Succeeded")


def _ended(code: int, reason: str, words: str, phase: str) -> str:
    text = _ENDED.replace("MAIN", CONTAINER).replace("CODE", str(code)).replace("REASON", reason)
    return text.replace("WORDS", words).replace("PHASE", phase)


def _stage(name: str, matches: list[dict[str, Any]], status: str | None, kind: str = "Pod") -> dict[str, Any]:
    following: dict[str, Any] = {"delete": True} if status is None else {"statusTemplate": status}
    return {
        "apiVersion": "kwok.x-k8s.io/v1alpha1",
        "kind": "Stage",
        "metadata": {"name": name},
        "spec": {
            "resourceRef": {"apiGroup": "v1", "kind": kind},
            "selector": {"matchExpressions": matches},
            "next": following,
        },
    }


def _is(key: str, *values: str) -> dict[str, Any]:
    return {"key": key, "operator": "In", "values": list(values)}


def _role(role: str) -> dict[str, Any]:
    return _is(f'.metadata.labels["{LABEL_ROLE}"]', role)


def _not_ready() -> dict[str, Any]:
    key = '.status.conditions.[] | select( .type == "Ready" ) | .status'
    return {"key": key, "operator": "NotIn", "values": ["True"]}


def _alive() -> dict[str, Any]:
    return {"key": ".metadata.deletionTimestamp", "operator": "DoesNotExist"}


def _leaving() -> dict[str, Any]:
    return {"key": ".metadata.deletionTimestamp", "operator": "Exists"}
