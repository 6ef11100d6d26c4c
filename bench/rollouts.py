"""Many ModelDeployments at once: their first revisions, then a rollout of all of them, with everything fake but us.

Engines are kwok's pods, their metrics come from a stub, verifier and checker say yes, and a few lines here stand for
the Gateway: they accept every version of every route. What is left is the operator, the API server and Kubernetes' own
controllers.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable
from typing import Any

from bench import audit, procfs, workload
from bench.client import Plain
from bench.lab import OPERATOR_USER, Lab
from bench.operator_process import OperatorProcess
from e2e.cluster import NotUp

Figures = dict[str, Any]
Json = dict[str, Any]
ROUTES = "/apis/gateway.networking.k8s.io/v1/httproutes"
CONTROLLER = "bench.finetune.dev/gateway"
_MERGE = "application/merge-patch+json"
_LANES = 16


def path_of(number: int) -> str:
    return f"/apis/finetune.dev/v1alpha1/namespaces/{workload.namespace_of(number)}/modeldeployments"


def accepted(route: Json) -> Json | None:
    """The status a Gateway gives this version of the route; None when it has it already."""
    generation = route["metadata"]["generation"]
    known = (route.get("status") or {}).get("parents") or []
    if any(c.get("observedGeneration") == generation for p in known for c in p["conditions"]):
        return None
    conditions = [
        {
            "type": kind,
            "status": "True",
            "reason": kind,
            "message": "",
            "observedGeneration": generation,
            "lastTransitionTime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        for kind in ("Accepted", "ResolvedRefs")
    ]
    parents = [
        {"parentRef": ref, "controllerName": CONTROLLER, "conditions": conditions}
        for ref in route["spec"]["parentRefs"]
    ]
    return {"status": {"parents": parents}}


async def gateway(plain: Plain) -> None:
    """Accepts every route, until cancelled."""
    waiting: asyncio.Queue[Json] = asyncio.Queue()

    async def lane() -> None:
        while True:
            route = await waiting.get()
            if (body := accepted(route)) is not None:
                meta = route["metadata"]
                path = ROUTES.replace("httproutes", f"namespaces/{meta['namespace']}/httproutes/{meta['name']}/status")
                await plain.call("PATCH", path, body, _MERGE)

    async with asyncio.TaskGroup() as lanes:
        for _ in range(_LANES):
            lanes.create_task(lane())
        while True:
            # A server that is busy ends watches that fall behind; what was missed meanwhile is read then.
            for route in (await plain.call("GET", ROUTES))["items"]:
                waiting.put_nowait(route)
            async for kind, route in plain.watch(ROUTES):
                if kind in ("ADDED", "MODIFIED"):
                    waiting.put_nowait(route)


async def until_served(plain: Plain, helper: asyncio.Task[None], uri: str, count: int, seconds: float) -> None:
    """Every ModelDeployment serves this model and has nothing on its way."""
    deadline = time.monotonic() + seconds
    while True:
        if helper.done():
            helper.result()
        found = (await plain.call("GET", "/apis/finetune.dev/v1alpha1/modeldeployments"))["items"]
        late = [status for md in found if not _serves(status := md.get("status") or {}, uri)]
        if len(found) == count and not late:
            return
        if time.monotonic() > deadline:
            words = Counter(f"{status.get('reason')}: {str(status.get('message'))[:120]}" for status in late)
            raise NotUp(f"{len(late)} of {count} do not serve {uri} after {seconds:.0f} s: {words.most_common(4)}")
        await asyncio.sleep(1.0)


def _serves(status: Json, uri: str) -> bool:
    return (status.get("stable") or {}).get("model") == uri and not status.get("rollout")


def decisions(calls: list[audit.Call]) -> list[float]:
    """Seconds from a decision (the status write before it) to each write of a route that changes its weights."""
    spans, decided = [], {}
    for call in sorted(calls, key=lambda c: c.answered):
        key = (call.namespace, call.name)
        if call.user != OPERATOR_USER or not call.ok:
            continue
        if call.resource == "modeldeployments/status" and call.verb == "update":
            decided[key] = call.answered
        elif call.resource == "httproutes" and call.verb == "patch" and key in decided:
            spans.append(call.answered - decided.pop(key))
    return spans


async def rollouts(lab: Lab, operator: OperatorProcess, plain: Plain, count: int, patience: float) -> Figures:
    accepting = asyncio.create_task(gateway(plain))
    numbers = range(count)
    first, second = workload.MODELS
    try:
        figures: Figures = {"deployments": count}
        made = plain.create_all((path_of(n), workload.modeldeployment(n)) for n in numbers)
        served = until_served(plain, accepting, first, count, patience)
        figures |= await _phase("first revisions", lab, operator, count, made, served)
        changed = _change(plain, numbers, second)
        served = until_served(plain, accepting, second, count, patience)
        figures |= await _phase("rollouts", lab, operator, count, changed, served)
    finally:
        accepting.cancel()
    return figures | {"RSS MiB": operator.memory()[0], "load": procfs.load_average()}


async def _change(plain: Plain, numbers: range, uri: str) -> None:
    lanes = asyncio.Semaphore(32)

    async def one(number: int) -> None:
        async with lanes:
            spec = workload.modeldeployment(number, uri)["spec"]
            path = f"{path_of(number)}/{workload.deployment_name(number)}"
            await plain.call("PATCH", path, {"spec": spec}, _MERGE)

    async with asyncio.TaskGroup() as group:
        for number in numbers:
            group.create_task(one(number))


async def _phase(
    what: str, lab: Lab, operator: OperatorProcess, count: int, work: Awaitable[None], served: Awaitable[None]
) -> Figures:
    lab.audit.read()
    mark = len(lab.audit.calls)
    cpu, servers, began = operator.cpu(), lab.cpu(), time.perf_counter()
    await asyncio.gather(work, served)
    took = time.perf_counter() - began
    lab.audit.read()
    calls = [c for c in lab.audit.calls[mark:] if c.user == OPERATOR_USER]
    writes = Counter(f"{c.verb} {c.resource}" for c in calls if c.write and "leases" not in c.resource)
    informing = writes.pop("create events", 0)
    figures = {
        f"{what}/min": 60 * count / took,
        f"{what}: operator CPU ms each": 1000 * (operator.cpu() - cpu) / count,
        f"{what}: server CPU ms each": {k: 1000 * (v - servers[k]) / count for k, v in lab.cpu().items()},
        f"{what}: API writes each": writes.total() / count,
        f"{what}: Events each": informing / count,
        f"{what}: writes by kind": {k: n / count for k, n in sorted(writes.items())},
        f"{what}: refused": dict(audit.refused(calls, OPERATOR_USER)),
    }
    if spans := decisions(calls):
        figures |= {
            f"{what}: decision to route p50 ms": 1000 * audit.percentile(spans, 0.5),
            f"{what}: decision to route p99 ms": 1000 * audit.percentile(spans, 0.99),
        }
    return figures
