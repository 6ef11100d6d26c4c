"""Carries out a plan, in its order: status, creates, patches, deletes, then Events.

Nothing here decides. A status conflict ends the pass before anything else happens, because the plan was made from an
old reading. A create that finds its name taken looks at who has it: ours is success (an answer was lost, or the store
is late); one that is going away, or belongs to a former FineTuneJob of this name, is waited for; somebody else's is a
conflict in words for the next plan, and never touched. A call whose fate is unknown ends the pass: the next plan reads
what became of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from finetune_operator.core.names import GANG_SERVICE, LABEL_MANAGED_BY, MANAGER
from finetune_operator.core.objects import uid_of
from finetune_operator.core.types import (
    BY_KIND,
    EVENTS,
    FINETUNEJOBS,
    Delete,
    EventNote,
    MergePatch,
    Obj,
    Plan,
    Resource,
)
from finetune_operator.kube import errors
from finetune_operator.kube.client import Client
from finetune_operator.kube.compact import Json
from finetune_operator.kube.store import Store

_MESSAGE_MAX = 1024


@dataclass
class Result:
    """What became of a plan. `again`: plan again at once; `error`: plan again with backoff."""

    writes: int = 0
    """Events not counted."""
    events: int = 0
    conflicts: dict[str, str] = field(default_factory=dict)
    again: bool = False
    error: errors.ApiError | None = None
    refused: str | None = None
    """What the API server does not admit (quota, policy, a webhook), in words for the user."""
    status_written: bool = False


class Executor:
    def __init__(self, client: Client, store: Store, *, now: Callable[[], datetime], instance: str) -> None:
        self._client = client
        self._store = store
        self._now = now
        self._instance = instance

    async def run(self, plan: Plan, job: Obj) -> Result:
        """`job` is the FineTuneJob that the plan was made from. Raises nothing of `errors.ApiError`."""
        result = Result()
        try:
            if plan.status is not None:
                await self._write_status(plan.status, job, result)
            for body in plan.creates:
                await self._create(body, job, result)
                if result.conflicts or result.error:
                    break
            for patch in plan.patches:
                await self._patch(patch, result)
            for delete in plan.deletes:
                await self._delete(delete, result)
        except errors.NotFound as error:
            result.error = error if plan.status is None or result.status_written else None
        except errors.Conflict:
            result.again = True
        except errors.ApiError as error:
            result.error = error
        if plan.events and (plan.status is None or result.status_written):
            for index, note in enumerate(plan.events):
                result.events += await self.tell(note, job, index)
        result.again = result.again or (result.writes > 0 and result.error is None)
        return result

    async def _write_status(self, status: Obj, job: Obj, result: Result) -> None:
        try:
            self._keep(FINETUNEJOBS, await self._client.update_status(FINETUNEJOBS, job, status))
        except errors.Conflict:
            await self._read_again(FINETUNEJOBS, job["metadata"]["namespace"], job["metadata"]["name"])
            raise
        result.writes += 1
        result.status_written = True

    async def _read_again(self, resource: Resource, namespace: str, name: str) -> None:
        """What was read is old; the watch would tell soon, but the next plan comes at once."""
        if resource.kind in Store.KINDS:
            self._keep(resource, await self._client.get(resource, namespace, name))

    async def _create(self, body: Obj, job: Obj, result: Result) -> None:
        resource = BY_KIND[body["kind"]]
        meta = body["metadata"]
        namespace, name = meta.get("namespace"), meta["name"]
        try:
            self._keep(resource, await self._client.create(resource, namespace, body))
            result.writes += 1
        except errors.AlreadyExists:
            if resource.kind != "Secret":  # never read: the name itself carries our uid
                await self._look_at(resource, namespace, name, job, result)
        except (errors.Forbidden, errors.Invalid, errors.BadRequest) as error:
            if "being terminated" in error.message:
                return
            result.refused = f"{resource.kind} {name} is not admitted: {error.message}"
            raise

    async def _look_at(self, resource: Resource, namespace: str, name: str, job: Obj, result: Result) -> None:
        try:
            found = await self._client.get(resource, namespace, name)
        except errors.NotFound:
            result.again = True
            return
        what = f"{resource.kind}/{name}"
        if is_ours(found, job) and not found["metadata"].get("deletionTimestamp"):
            if resource.kind in Store.KINDS:  # the store missed it; other kinds are not watched, plans never see them
                self._keep(resource, found)
                result.again = True
        elif found["metadata"].get("deletionTimestamp"):
            result.error = errors.Conflict(f"{what} is still being deleted", status=409)
        elif formerly_ours(found, job):
            result.error = errors.Conflict(f"{what} belongs to a former FineTuneJob of this name", status=409)
        else:
            result.conflicts[what] = conflict_sentence(resource, namespace, name, found)

    async def _patch(self, patch: MergePatch, result: Result) -> None:
        try:
            answer = await self._client.merge_patch(patch.resource, patch.namespace, patch.name, patch.body)
        except errors.Conflict:
            await self._read_again(patch.resource, patch.namespace, patch.name)
            raise
        self._keep(patch.resource, answer)
        result.writes += 1

    async def _delete(self, delete: Delete, result: Result) -> None:
        try:
            answer = await self._client.delete(
                delete.resource, delete.namespace, delete.name, uid=delete.uid, foreground=delete.foreground
            )
        except errors.NotFound:
            return
        except errors.Conflict:
            result.again = True  # another object has that name now
            return
        if answer.get("kind") == delete.resource.kind:
            self._keep(delete.resource, answer)
        result.writes += 1

    def _keep(self, resource: Resource, answer: Json) -> None:
        """Our own writes are seen by the next plan without waiting for the watch."""
        if answer.get("metadata", {}).get("name"):
            answer.setdefault("kind", resource.kind)
            self._store.apply(None, answer)

    async def tell(self, note: EventNote, job: Obj, index: int = 0) -> bool:
        """Emits an Event. Events inform; a lost one is not worth a retry."""
        try:
            await self._client.create(EVENTS, job["metadata"]["namespace"], self._event_body(note, job, index))
        except errors.ApiError:
            return False
        return True

    def _event_body(self, note: EventNote, job: Obj, index: int) -> Json:
        meta = job["metadata"]
        now = self._now()
        stamp = now.strftime("%Y-%m-%dT%H:%M:%SZ")
        seed = f"{meta.get('uid')}/{now.timestamp()}/{index}/{note.reason}/{note.message}"
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": f"{meta['name']}.{hashlib.sha256(seed.encode()).hexdigest()[:16]}",
                "namespace": meta["namespace"],
            },
            "involvedObject": {
                "apiVersion": FINETUNEJOBS.api_version,
                "kind": FINETUNEJOBS.kind,
                "namespace": meta["namespace"],
                "name": meta["name"],
                "uid": meta.get("uid"),
                "resourceVersion": meta.get("resourceVersion"),
            },
            "type": note.type,
            "reason": note.reason,
            "message": note.message[:_MESSAGE_MAX],
            "source": {"component": MANAGER},
            "reportingComponent": MANAGER,
            "reportingInstance": self._instance,
            "firstTimestamp": stamp,
            "lastTimestamp": stamp,
            "count": 1,
        }


def _job_owners(found: Obj) -> list[dict[str, Any]]:
    return [
        ref
        for ref in found["metadata"].get("ownerReferences") or ()
        if ref.get("kind") == FINETUNEJOBS.kind and str(ref.get("apiVersion", "")).startswith(FINETUNEJOBS.group + "/")
    ]


def is_ours(found: Obj, job: Obj) -> bool:
    """Controlled by this FineTuneJob; the gang Service is shared, so any FineTuneJob's of this namespace will do."""
    if found.get("kind") == "Service" and found["metadata"]["name"] == GANG_SERVICE:
        labels = found["metadata"].get("labels") or {}
        return labels.get(LABEL_MANAGED_BY) == MANAGER and bool(_job_owners(found))
    return any(ref.get("uid") == uid_of(job) and ref.get("controller") for ref in _job_owners(found))


def formerly_ours(found: Obj, job: Obj) -> bool:
    """Controlled by a FineTuneJob of the same name that was deleted; garbage collection will remove it."""
    return any(ref.get("name") == job["metadata"]["name"] and ref.get("controller") for ref in _job_owners(found))


def conflict_sentence(resource: Resource, namespace: str, name: str, found: Obj) -> str:
    owners = [f"{r.get('kind')}/{r.get('name')}" for r in found["metadata"].get("ownerReferences") or ()]
    whose = f"belongs to {', '.join(owners)}" if owners else "was not made by this FineTuneJob"
    return (
        f"a {resource.kind} named {name} exists in namespace {namespace} and {whose}; "
        f"it is left alone: delete or rename it, or give the FineTuneJob another name"
    )
