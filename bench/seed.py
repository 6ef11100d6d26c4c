"""A cluster that already holds many FineTuneJobs, made by a plain client and `plan()` itself, without controllers.

Holding ten thousand is measured on such a cluster: it is made in minutes, and is what the operator would have made.
Queued ones have a finished preflight pod and a Job without pods; active ones a Running pod as well.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import IPv4Address
from typing import Any

from bench import workload
from bench.client import Json, Plain
from finetune_operator.core.names import (
    CONTAINER,
)
from finetune_operator.core.plan import plan
from finetune_operator.core.types import BY_KIND, Config, Observed, Plan
from finetune_operator.kube.client import path_of

NODES = 20
_FIRST_IP = IPv4Address("10.130.0.1")


class Seeder:
    """`config` must be what the operator will run with, or it finds something to change."""

    def __init__(self, plain: Plain, config: Config) -> None:
        self._plain, self._config = plain, config
        self._services: dict[str, Json] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def fill(self, numbers: Iterable[int], *, active: int, in_flight: int = 24) -> None:
        """The first `active` of them get a Running pod."""
        source = iter(numbers)

        async def lane() -> None:
            for number in source:
                await self._one(number, active=number < active)

        async with asyncio.TaskGroup() as lanes:
            for _ in range(in_flight):
                lanes.create_task(lane())

    async def _one(self, number: int, *, active: bool) -> None:
        job = await self._create(workload.finetunejob(number))
        namespace = job["metadata"]["namespace"]
        seen = Observed(job=job)
        step = self._plan(seen)
        pod = await self._pod(_only(step, "Pod"), number, succeeded())
        seen = replace(seen, job=_with(job, step), pods=(pod,))
        seen = replace(seen, job=_with(seen.job, self._plan(seen)))
        seen = await self._with_service(seen, namespace)
        step = self._plan(seen)
        attempt = await self._create(_only(step, "Job"))
        seen = replace(seen, job=_with(seen.job, step), jobs=(attempt,))
        if active:
            trainer = await self._pod(_trainer(attempt), number, running(number))
            seen = replace(seen, pods=(pod, trainer))
        step = self._plan(seen)
        await self._write_status(_with(seen.job, step))

    def _plan(self, seen: Observed) -> Plan:
        return plan(seen, datetime.now(UTC), self._config)

    async def _create(self, body: Json) -> Json:
        resource = BY_KIND[body["kind"]]
        answer = await self._plain.call("POST", path_of(resource, body["metadata"]["namespace"]), body)
        return answer | {"kind": resource.kind, "apiVersion": resource.api_version}

    async def _pod(self, body: Json, number: int, status: Json) -> Json:
        body = copy.deepcopy(body)
        body["spec"]["nodeName"] = node_name(number)
        made = await self._create(body)
        path = path_of(BY_KIND["Pod"], made["metadata"]["namespace"], made["metadata"]["name"], "status")
        answer = await self._plain.call("PUT", path, made | {"status": status})
        return answer | {"kind": "Pod", "apiVersion": "v1"}

    async def _with_service(self, seen: Observed, namespace: str) -> Observed:
        """The namespace's one Service is made by whichever job comes first; a few more become its owners."""
        async with self._locks.setdefault(namespace, asyncio.Lock()):
            step = self._plan(replace(seen, gang_service=self._services.get(namespace)))
            if namespace not in self._services:
                self._services[namespace] = await self._create(_only(step, "Service"))
            for patch in step.patches:
                path = path_of(patch.resource, patch.namespace, patch.name)
                answer = await self._plain.call("PATCH", path, patch.body, "application/merge-patch+json")
                self._services[namespace] = answer | {"kind": "Service", "apiVersion": "v1"}
            return replace(seen, gang_service=self._services[namespace])

    async def _write_status(self, job: Json) -> None:
        meta = job["metadata"]
        path = path_of(BY_KIND["FineTuneJob"], meta["namespace"], meta["name"], "status")
        await self._plain.call("PUT", path, job)


def _with(job: Any, step: Plan) -> Json:
    return dict(job) | ({"status": step.status} if step.status is not None else {})


def _only(step: Plan, kind: str) -> Json:
    found = [body for body in step.creates if body["kind"] == kind]
    if len(found) != 1:
        raise RuntimeError(f"the plan makes {len(found)} objects of kind {kind}, one was expected: {step}")
    return dict(found[0])


def node_name(number: int) -> str:
    return f"seeded-{number % NODES}"


def nodes() -> list[Json]:
    """Nobody renews their leases, and no controller is there to mind."""
    ready = {"type": "Ready", "status": "True", "reason": "Seeded", "message": "", "lastHeartbeatTime": None}
    return [
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": node_name(n), "labels": {"kubernetes.io/hostname": node_name(n)}},
            "status": {"conditions": [ready], "capacity": {"pods": "1000"}, "allocatable": {"pods": "1000"}},
        }
        for n in range(NODES)
    ]


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _container(state: Json, *, ready: bool) -> Json:
    image = {"image": "seeded", "imageID": ""}
    return {"name": CONTAINER, **image, "ready": ready, "restartCount": 0, "state": state}


def succeeded() -> Json:
    moment = _now()
    ended = {"exitCode": 0, "reason": "Completed", "message": workload.preflight_words()}
    ended |= {"startedAt": moment, "finishedAt": moment}
    return {"phase": "Succeeded", "containerStatuses": [_container({"terminated": ended}, ready=False)]}


def running(number: int) -> Json:
    ip = str(_FIRST_IP + number)
    moment = _now()
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": moment}
    return {
        "phase": "Running",
        "podIP": ip,
        "podIPs": [{"ip": ip}],
        "startTime": moment,
        "conditions": [ready],
        "containerStatuses": [_container({"running": {"startedAt": moment}}, ready=True)],
    }


def _trainer(job: Json) -> Json:
    """As the Job controller would make it."""
    template, meta = job["spec"]["template"], job["metadata"]
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": meta["name"], "uid": meta["uid"], "controller": True}
    index = {"batch.kubernetes.io/job-completion-index": "0"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{meta['name']}-0-seed0",
            "namespace": meta["namespace"],
            "labels": template["metadata"]["labels"] | index,
            "annotations": template["metadata"].get("annotations", {}) | index,
            "ownerReferences": [owner],
        },
        "spec": template["spec"],
    }
