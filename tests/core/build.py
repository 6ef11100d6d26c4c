"""Builders for what the operator observes: each test row shows only what matters to it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from finetune_api.reports import LastWords, PreflightReport, Progress
from finetune_api.runkey import frozen_digest
from finetune_operator.core.names import ANNOTATION_GENERATION
from finetune_operator.core.objects import uid_of
from finetune_operator.core.plan import parse_spec, plan
from finetune_operator.core.types import Config, Observed, Plan, Sample

T0 = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
CONFIG = Config(
    namespace="finetune-system",
    trainer_image="trainer:1",
    small_image="small:1",
    artifacts_uri="s3://artifacts/runs",
    artifacts_secret="finetune-artifacts",
    installation_key=b"k" * 32,
)
SPEC: dict[str, Any] = {
    "model": {"uri": "s3://artifacts/base"},
    "data": {"train": [{"uri": "s3://artifacts/train.jsonl"}]},
    "method": {"type": "LoRA"},
    "resources": {"nodes": 2, "gpusPerNode": 1},
}


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def ts(seconds: float) -> str:
    return at(seconds).strftime("%Y-%m-%dT%H:%M:%SZ")


def merge(base: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
    out = dict(base)
    for key, value in extra.items():
        out[key] = merge(out[key], value) if isinstance(value, dict) and isinstance(out.get(key), dict) else value
    return out


def ftj(spec: dict[str, Any] | None = None, status: dict[str, Any] | None = None, **meta: Any) -> dict[str, Any]:
    return {
        "apiVersion": "finetune.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {
            "name": "bot",
            "namespace": "team",
            "uid": "uid-bot",
            "resourceVersion": "1",
            "generation": 1,
            "creationTimestamp": ts(0),
            **meta,
        },
        "spec": merge(SPEC, spec or {}),
        "status": status or {},
    }


def resolved(spec: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "modelRevision": "m1",
        "dataFingerprint": "d1",
        "runKey": "0123456789abcdef",
        "runUri": "s3://artifacts/runs/team/bot/0123456789abcdef",
        "image": "trainer:1",
        "frozenDigest": frozen_digest(parse_spec(ftj(spec))),
    }


def attempt(index: int = 1, **fields: Any) -> dict[str, Any]:
    return {
        "index": index,
        "job": f"bot-{index}",
        "generation": 1,
        "specDigest": "s1",
        "nodes": 2,
        "gpusPerNode": 1,
        "createdAt": ts(10),
        **fields,
    }


def running(index: int = 1, **fields: Any) -> dict[str, Any]:
    """An attempt whose Job is known and whose pods run."""
    return attempt(index, jobUid=f"uid-job-{index}", startedAt=ts(11), runningAt=ts(15), **fields)


def ended(index: int, outcome: str, **fields: Any) -> dict[str, Any]:
    return running(index, outcome=outcome, finishedAt=ts(100), releasedAt=ts(101), **fields)


def status(*attempts: dict[str, Any], spec: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    return {"phase": "Running", "resolved": resolved(spec), "attempts": list(attempts), **fields}


def batch_job(index: int = 1, *conditions: str, **meta: Any) -> dict[str, Any]:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": f"bot-{index}",
            "namespace": "team",
            "uid": f"uid-job-{index}",
            "creationTimestamp": ts(11),
            "labels": {"finetune.dev/job": "bot", "finetune.dev/role": "trainer", "finetune.dev/attempt": str(index)},
            "ownerReferences": [{"uid": "uid-bot", "controller": True}],
            **meta,
        },
        "status": {
            "conditions": [
                {"type": c, "status": "True", "lastTransitionTime": ts(100), "message": ""} for c in conditions
            ]
        },
    }


def pod(
    index: int = 0,
    *,
    attempt: int = 1,
    phase: str = "Running",
    node: str | None = None,
    code: int | None = None,
    words: LastWords | None = None,
    finished: float = 100,
    reason: str = "Error",
    deleting: bool = False,
    disrupted: str | None = None,
    waiting: tuple[str, str] | None = None,
) -> dict[str, Any]:
    state: dict[str, Any] = {"running": {}} if phase == "Running" else {"waiting": {}}
    if waiting is not None:
        state = {"waiting": {"reason": waiting[0], "message": waiting[1]}}
    if code is not None:
        phase = "Succeeded" if code == 0 else "Failed"
        message = json.dumps(words.to_wire()) if words is not None else ""
        state = {"terminated": {"exitCode": code, "reason": reason, "message": message, "finishedAt": ts(finished)}}
    meta: dict[str, Any] = {
        "name": f"bot-{attempt}-{index}-x",
        "namespace": "team",
        "uid": f"uid-pod-{attempt}-{index}",
        "labels": {
            "finetune.dev/job": "bot",
            "finetune.dev/role": "trainer",
            "finetune.dev/attempt": str(attempt),
            "batch.kubernetes.io/job-completion-index": str(index),
        },
        "ownerReferences": [{"uid": f"uid-job-{attempt}", "controller": True}],
    }
    if deleting:
        meta["deletionTimestamp"] = ts(90)
    conditions = [{"type": "DisruptionTarget", "status": "True", "reason": disrupted}] if disrupted else []
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": meta,
        "spec": {"nodeName": node or f"node-{index + 1}"} if phase != "Pending" else {},
        "status": {
            "phase": phase,
            "podIP": f"100.64.0.{index + 10}",
            "conditions": conditions,
            "containerStatuses": [{"name": "main", "state": state}],
        },
    }


def preflight_pod(
    report: PreflightReport | None = None, *, uid: str = "uid-pre", generation: int = 1
) -> dict[str, Any]:
    state: dict[str, Any] = {"running": {}}
    if report is not None:
        message = json.dumps(report.to_wire())
        state = {"terminated": {"exitCode": report.exit_code, "message": message, "finishedAt": ts(5)}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "bot-preflight",
            "namespace": "team",
            "uid": uid,
            "labels": {"finetune.dev/job": "bot", "finetune.dev/role": "preflight"},
            "annotations": {ANNOTATION_GENERATION: str(generation)},
        },
        "spec": {"nodeName": "node-1"},
        "status": {
            "phase": "Running" if report is None else "Succeeded",
            "containerStatuses": [{"name": "main", "state": state}],
        },
    }


def report(code: int = 0, reason: str = "Accepted", message: str = "all good", **fields: Any) -> PreflightReport:
    found = {"run_key": "0123456789abcdef", "model_revision": "m1", "data_fingerprint": "d1"} if code == 0 else {}
    return PreflightReport(exit_code=code, reason=reason, message=message, at=ts(5), **{**found, **fields})


def words(index: int = 0, code: int = 85, **fields: Any) -> LastWords:
    return LastWords(
        **{"attempt": 1, "index": index, "exit_code": code, "reason": "r", "message": "m", "at": ts(100), **fields}
    )


def checkpoint(step: int, attempt: int = 1, at_seconds: float = 95) -> dict[str, Any]:
    return {
        "step": step,
        "attempt": attempt,
        "uri": f"s3://artifacts/runs/x/step-{step}-a{attempt}",
        "bytes": 10,
        "seconds": 1.0,
        "digest": "xxh3:0",
        "at": ts(at_seconds),
    }


def progress(step: int, *, attempt: int = 1, at_seconds: float = 60, **fields: Any) -> Progress:
    return Progress(
        **{
            "attempt": attempt,
            "stage": "Training",
            "step": step,
            "total_steps": 100,
            "loss": 1.5,
            "eta_seconds": 42.0,
            "updated_at": ts(at_seconds),
            "running_at": ts(20),
            **fields,
        }
    )


def node(name: str, *, taint: str | None = None, ready: str = "True", cordoned: bool = False) -> dict[str, Any]:
    return {
        "metadata": {"name": name},
        "spec": {
            "taints": [{"key": taint, "effect": "NoSchedule"}] if taint else [],
            **({"unschedulable": True} if cordoned else {}),
        },
        "status": {"conditions": [{"type": "Ready", "status": ready}]},
    }


GANG = {
    "metadata": {
        "name": "finetune-gang",
        "namespace": "team",
        "resourceVersion": "5",
        "labels": {"app.kubernetes.io/managed-by": "finetune-operator"},
        "ownerReferences": [{"uid": "uid-bot"}],
    }
}


def seen(
    job: dict[str, Any],
    *,
    jobs: tuple[Any, ...] = (),
    pods: tuple[Any, ...] = (),
    nodes: tuple[Any, ...] = (),
    sample: Progress | None = None,
    gone: tuple[Any, ...] = (),
    fresh: bool = True,
    gang_service: dict[str, Any] | None = GANG,
    **more: Any,
) -> Observed:
    return Observed(
        job=job,
        jobs=jobs,
        pods=(*pods, *gone),
        gone_pods=frozenset(uid_of(p) for p in gone),
        nodes={n["metadata"]["name"]: n for n in nodes},
        sample=Sample(sample.attempt, sample) if sample is not None else None,
        fresh=fresh,
        gang_service=gang_service,
        **more,
    )


def decide(observed: Observed, seconds: float = 120, config: Config = CONFIG) -> Plan:
    return plan(observed, at(seconds), config)


def then(observed: Observed, made: Plan) -> Observed:
    """The same world after the plan's status write was stored and read back."""
    assert made.status is not None
    return replace(observed, job={**observed.job, "status": made.status})


def condition_of(made: Plan, kind: str) -> dict[str, Any]:
    assert made.status is not None
    return next(c for c in made.status["conditions"] if c["type"] == kind)
