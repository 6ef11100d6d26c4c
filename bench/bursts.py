"""Many FineTuneJobs created at once: how fast they get their children, and what each costs."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

from bench import audit, procfs, workload
from bench.client import Plain
from bench.lab import OPERATOR_USER, Lab
from bench.operator_process import OperatorProcess
from e2e.cluster import NotUp

Figures = dict[str, Any]
RAW_WRITES = 1000


def path_of(namespace: str) -> str:
    return f"/apis/finetune.dev/v1alpha1/namespaces/{namespace}/finetunejobs"


def manifests(numbers: Iterable[int]) -> list[tuple[str, dict[str, Any]]]:
    return [(path_of(workload.namespace_of(n)), workload.finetunejob(n)) for n in numbers]


async def raw_creates(plain: Plain) -> float:
    """ConfigMaps a plain client creates per second on this machine now: the bound that figures are compared with."""
    path = "/api/v1/namespaces/default/configmaps"
    body = {"spec": json.dumps(workload.finetunejob(0))}
    items = [(path, {"metadata": {"name": f"raw-{n}"}, "data": body}) for n in range(RAW_WRITES)]
    began = time.perf_counter()
    await plain.create_all(items)
    rate = RAW_WRITES / (time.perf_counter() - began)
    await plain.call("DELETE", path)
    return rate


async def burst(lab: Lab, operator: OperatorProcess, plain: Plain, jobs: int, patience: float) -> Figures:
    """All at once; ends when every attempt's Job stands and the operator has nothing left to do."""
    lab.audit.read()
    first = len(lab.audit.calls)
    cpu, servers = operator.cpu(), lab.cpu()
    began = time.perf_counter()
    creating = asyncio.create_task(plain.create_all(manifests(range(jobs))))
    await _until_jobs_stand(lab, operator, jobs, first, patience)
    cpu_until_jobs, servers_until_jobs = operator.cpu(), lab.cpu()
    elapsed = time.perf_counter() - began
    await creating
    await asyncio.to_thread(operator.settle, patience)
    lab.audit.read()
    calls = lab.audit.calls[first:]
    return _figures(calls, jobs) | {
        "seconds": elapsed,
        "operator CPU ms/job": 1000 * (cpu_until_jobs - cpu) / jobs,
        "server CPU ms/job": {k: 1000 * (servers_until_jobs[k] - servers[k]) / jobs for k in servers},
        "operator CPU ms/job until idle": 1000 * (operator.cpu() - cpu) / jobs,
        "RSS MiB": operator.memory()[0],
        "RSS peak MiB": operator.memory()[1],
        "passes/job": operator.passes() / jobs,
        "bugs": operator.metrics().get(("finetune_operator_reconciles_total", "bug"), 0.0),
        "load": procfs.load_average(),
    }


async def _until_jobs_stand(lab: Lab, operator: OperatorProcess, jobs: int, first: int, patience: float) -> None:
    """All attempts' Jobs; NotUp says how many there are, and what the operator complained about."""
    deadline = time.monotonic() + patience
    standing, looked = 0, first
    while True:
        lab.audit.read()
        new, looked = lab.audit.calls[looked:], len(lab.audit.calls)
        standing += sum(c.user == OPERATOR_USER and c.verb == "create" and c.resource == "jobs" and c.ok for c in new)
        if standing >= jobs:
            return
        if time.monotonic() > deadline:
            told = audit.stories(lab.audit.calls[first:], OPERATOR_USER)
            late = [key for key, story in told.items() if not story.complete][:5]
            raise NotUp(
                f"{standing} of {jobs} Jobs stand after {patience:.0f} s; missing: {', '.join(late)}; "
                f"the operator's complaints: {dict(operator.complaints())}"
            )
        await asyncio.sleep(0.25)


def _figures(calls: list[audit.Call], jobs: int) -> Figures:
    told = audit.stories(calls, OPERATOR_USER)
    done = [s for s in told.values() if s.job_created is not None]
    start = min(s.applied for s in told.values())
    last_child = max(s.preflight_created or 0.0 for s in done)
    last_job = max(s.job_created or 0.0 for s in done)
    writes: Counter[str] = Counter()
    for story in done:
        writes.update(story.writes)
    informing = sum(n for what, n in writes.items() if what == "create events")
    return {
        "jobs": jobs,
        "namespaces": len(workload.namespaces(jobs)),
        "applies/s": jobs / (max(s.applied for s in told.values()) - start),
        "first child jobs/s": jobs / (last_child - start),
        "Job jobs/s": jobs / (last_job - start),
        "writes/job": (writes.total() - informing) / len(done),
        "Events/job": informing / len(done),
        "writes by kind": {what: n / len(done) for what, n in sorted(writes.items())},
        "reads/job": sum(c.user == OPERATOR_USER and not c.write for c in calls) / jobs,
        "refused": dict(audit.refused(calls, OPERATOR_USER)),
        "apply to Job p50 s": audit.percentile(((s.job_created or 0.0) - s.applied for s in done), 0.5),
        "apply to Job p99 s": audit.percentile(((s.job_created or 0.0) - s.applied for s in done), 0.99),
    }


async def reaction(
    lab: Lab, operator: OperatorProcess, plain: Plain, jobs: int, rate: float, patience: float
) -> Figures:
    """One FineTuneJob every 1/rate seconds: from apply to its first child, and to its Job."""
    lab.audit.read()
    first = len(lab.audit.calls)
    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for position, (path, body) in enumerate(manifests(range(jobs))):
            await asyncio.sleep(max(0.0, began + position / rate - time.perf_counter()))
            group.create_task(plain.call("POST", path, body))
    await _until_jobs_stand(lab, operator, jobs, first, patience)
    told = audit.stories(lab.audit.calls[first:], OPERATOR_USER)
    done = list(told.values())
    figures: Figures = {"jobs": jobs, "rate": rate, "load": procfs.load_average()}
    spans = {
        "apply to preflight pod": [(s.preflight_created or 0.0) - s.applied for s in done],
        "preflight over to Job": [s.job_created - s.preflight_over for s in done if s.job_created and s.preflight_over],
        "apply to Job": [(s.job_created or 0.0) - s.applied for s in done],
    }
    own = [a + b for a, b in zip(spans["apply to preflight pod"], spans["preflight over to Job"], strict=False)]
    spans["operator share of apply to Job"] = own
    for name, values in spans.items():
        for share in (0.5, 0.99):
            figures[f"{name} p{share * 100:.0f} ms"] = 1000 * audit.percentile(values, share)
    return figures
