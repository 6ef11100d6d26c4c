"""From something happening to a running gang until its FineTuneJob's status says so."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

from bench import audit, procfs, workload
from bench.bursts import Figures
from bench.client import Plain
from bench.lab import OPERATOR_USER, Lab
from bench.operator_process import OperatorProcess
from finetune_operator.core.names import LABEL_JOB, LABEL_ROLE, ROLE_TRAINER

Key = tuple[str, str]
_TAINT = {"key": "aws-node-termination-handler/spot-itn", "value": "bench", "effect": "NoSchedule"}


class Preemptions:
    """When each FineTuneJob's status first showed a preemption, seen by a watch."""

    def __init__(self) -> None:
        self.seen: dict[Key, float] = {}
        self._changed = asyncio.Event()

    async def follow(self, plain: Plain, namespace: str) -> None:
        path = f"/apis/finetune.dev/v1alpha1/namespaces/{namespace}/finetunejobs"
        async for _, job in plain.watch(path):
            meta, status = job["metadata"], job.get("status") or {}
            if status.get("preemptions"):
                self.seen.setdefault((meta["namespace"], meta["name"]), time.perf_counter())
                self._changed.set()

    async def until(self, wanted: set[Key], seconds: float) -> None:
        async with asyncio.timeout(seconds):
            while not wanted <= self.seen.keys():
                self._changed.clear()
                await self._changed.wait()


async def trainer_pods(plain: Plain, namespace: str) -> list[dict[str, Any]]:
    selector = f"{LABEL_ROLE}%3D{ROLE_TRAINER}"
    answer = await plain.call("GET", f"/api/v1/namespaces/{namespace}/pods?labelSelector={selector}")
    return [p for p in answer["items"] if p["status"].get("phase") == "Running"]


def job_of(pod: dict[str, Any]) -> Key:
    return pod["metadata"]["namespace"], pod["metadata"]["labels"][LABEL_JOB]


async def event_to_status(
    lab: Lab, operator: OperatorProcess, plain: Plain, active: int, *, samples: int, rate: float
) -> Figures:
    """While the first `active` gangs run and report: pods deleted, `rate` a second, then a node reclaimed."""
    namespace = workload.namespace_of(0)
    await _until_running(plain, min(active, workload.JOBS_PER_NAMESPACE), namespace)
    watch = Preemptions()
    following = asyncio.create_task(watch.follow(plain, namespace))
    try:
        pods = random.Random(1).sample(await trainer_pods(plain, namespace), samples + 1)
        first = await _delete_pods(plain, watch, pods[:1], rate)
        lab.audit.read()
        before = len(lab.audit.calls)
        cpu, began, waits = operator.cpu(), time.perf_counter(), _waits(operator)
        latencies = await _delete_pods(plain, watch, pods[1:], rate)
        busy = time.perf_counter() - began
        figures: Figures = {
            "first pod deleted to status ms": 1000 * first[0],
            "loop lag s": operator.metric("finetune_operator_loop_lag_seconds"),
            "active jobs": active,
            "pod deleted to status p50 ms": 1000 * audit.percentile(latencies, 0.5),
            "pod deleted to status p99 ms": 1000 * audit.percentile(latencies, 0.99),
            "pod deleted samples": samples,
            "waited for a worker, mean ms": _means(waits, _waits(operator)),
            "operator CPU share meanwhile": (operator.cpu() - cpu) / busy,
        }
        figures |= _calls(lab, before, busy) | await _reclaim_node(plain, watch, namespace)
    finally:
        following.cancel()
    return figures | {"events load": procfs.load_average(), "events RSS MiB": operator.memory()[0]}


def _waits(operator: OperatorProcess) -> dict[str, tuple[float, float]]:
    """By lane of the queue: (seconds, keys) so far."""
    name, metrics = "finetune_operator_queue_wait_seconds", operator.metrics()
    lanes = [key[1] for key in metrics if key[0] == f"{name}_count"]
    return {lane: (metrics[f"{name}_sum", lane], metrics[f"{name}_count", lane]) for lane in lanes}


def _means(before: dict[str, tuple[float, float]], after: dict[str, tuple[float, float]]) -> dict[str, float]:
    """Milliseconds a key waited, for each lane that had some."""
    new = {lane: (s - before.get(lane, (0, 0))[0], n - before.get(lane, (0, 0))[1]) for lane, (s, n) in after.items()}
    return {lane: 1000 * seconds / keys for lane, (seconds, keys) in sorted(new.items()) if keys}


def _calls(lab: Lab, before: int, seconds: float) -> Figures:
    """What the operator asked of the API server meanwhile, and how long the server took to answer."""
    lab.audit.read()
    spans: dict[str, list[float]] = {}
    for call in lab.audit.calls[before:]:
        if call.user == OPERATOR_USER:
            spans.setdefault(f"{call.verb} {call.resource}", []).append(call.answered - call.received)
    return {
        "API calls/s meanwhile": {what: len(took) / seconds for what, took in sorted(spans.items())},
        "answered within ms, p50": {k: 1000 * audit.percentile(v, 0.5) for k, v in sorted(spans.items())},
        "answered within ms, p99": {k: 1000 * audit.percentile(v, 0.99) for k, v in sorted(spans.items())},
    }


async def _until_running(plain: Plain, wanted: int, namespace: str) -> None:
    async with asyncio.timeout(300):
        while len(await trainer_pods(plain, namespace)) < wanted:  # noqa: ASYNC110 - the other process tells nobody
            await asyncio.sleep(2)


async def _delete_pods(plain: Plain, watch: Preemptions, pods: list[dict[str, Any]], rate: float) -> list[float]:
    sent: dict[Key, float] = {}
    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for position, pod in enumerate(pods):
            await asyncio.sleep(max(0.0, began + position / rate - time.perf_counter()))
            meta = pod["metadata"]
            sent[job_of(pod)] = time.perf_counter()
            group.create_task(plain.call("DELETE", f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"))
    await watch.until(set(sent), 120)
    return [watch.seen[key] - at for key, at in sent.items()]


async def _reclaim_node(plain: Plain, watch: Preemptions, namespace: str) -> Figures:
    """A spot notice as a taint, on the node with the most of this namespace's gangs."""
    by_node: dict[str, set[Key]] = {}
    for pod in await trainer_pods(plain, namespace):
        if job_of(pod) not in watch.seen:
            by_node.setdefault(pod["spec"]["nodeName"], set()).add(job_of(pod))
    node, keys = max(by_node.items(), key=lambda item: len(item[1]))
    sent = time.perf_counter()
    await plain.call("PATCH", f"/api/v1/nodes/{node}", {"spec": {"taints": [_TAINT]}}, "application/merge-patch+json")
    await watch.until(keys, 120)
    latencies = [watch.seen[key] - sent for key in keys]
    return {
        "node reclaimed gangs": len(keys),
        "node reclaimed to first status ms": 1000 * min(latencies),
        "node reclaimed to last status ms": 1000 * max(latencies),
    }
