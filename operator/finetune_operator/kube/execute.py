"""Carries out a plan, in its order: status, creates, patches, deletes, then Events.

Nothing here decides. A status conflict ends the pass before anything else happens, because the plan was made from an
old reading. A create that finds its name taken looks at who has it: ours is success (an answer was lost, or the store
is late); one that is going away, or belongs to a former object of the owner's name, is waited for; somebody else's is a
conflict in words for the next plan, and never touched. A call whose fate is unknown ends the pass: the next plan reads
what became of it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from weakref import WeakValueDictionary

from finetune_operator.core.names import GANG_SERVICE, KIND_JOB, LABEL_MANAGED_BY, MANAGER
from finetune_operator.core.objects import labels_of, uid_of
from finetune_operator.core.types import BY_KIND, SERVICES, Delete, EventNote, MergePatch, Obj, Plan, Resource
from finetune_operator.kube import errors
from finetune_operator.kube.announcer import post
from finetune_operator.kube.client import Client
from finetune_operator.kube.compact import Json
from finetune_operator.kube.store import Store

_MESSAGE_MAX = 1024
_REMEMBERED = 50_000


@dataclass
class Result:
    """What became of a plan. `again`: plan again at once; `error`: plan again with backoff."""

    writes: int = 0
    """Events not counted."""
    events: int = 0
    """Sent by the pass itself; none where an announcer does."""
    conflicts: dict[str, str] = field(default_factory=dict)
    again: bool = False
    error: errors.ApiError | None = None
    refused: str | None = None
    """What the API server does not admit (quota, policy, a webhook), in words for the user."""
    status_written: bool = False


class Executor:
    def __init__(
        self,
        client: Client,
        store: Store,
        *,
        now: Callable[[], datetime],
        instance: str,
        announce: Callable[[Json], None] | None = None,
    ) -> None:
        """`announce` takes Events to be sent beside; without it they are sent at the end of the pass."""
        self._client = client
        self._announce = announce
        self._store = store
        self._now = now
        self._instance = instance
        self._locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()
        self._standing: OrderedDict[tuple[str, str, str, str], None] = OrderedDict()
        """Objects that are not watched and stood when we last knew: (kind, namespace, name, owner's uid)."""

    async def run(self, plan: Plan, owner: Obj) -> Result:
        """`owner` is the object that the plan was made from. Raises nothing of `errors.ApiError`."""
        result = Result()
        try:
            if plan.status is not None:
                await self._write_status(plan.status, owner, result)
            for body in plan.creates:
                await self._create(body, owner, result)
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
                result.events += await self.tell(note, owner, index)
        result.again = result.again or (result.writes > 0 and result.error is None)
        return result

    async def _write_status(self, status: Obj, owner: Obj, result: Result) -> None:
        resource = BY_KIND[owner["kind"]]
        try:
            self._keep(resource, await self._client.update_status(resource, owner, status))
        except errors.Conflict:
            await self._read_again(resource, owner["metadata"]["namespace"], owner["metadata"]["name"])
            raise
        result.writes += 1
        result.status_written = True

    async def _read_again(self, resource: Resource, namespace: str, name: str) -> None:
        """What was read is old; the watch would tell soon, but the next plan comes at once."""
        if resource.kind in Store.KINDS:
            self._keep(resource, await self._client.get(resource, namespace, name))

    async def _create(self, body: Obj, owner: Obj, result: Result) -> None:
        resource = BY_KIND[body["kind"]]
        meta = body["metadata"]
        namespace, name = meta.get("namespace"), meta["name"]
        if await self._stands(resource, namespace, name, owner):
            return
        if resource.kind == SERVICES.kind:
            async with self._one_at_a_time(namespace, name):
                known = self._store.get(resource.kind, namespace, name)
                if known is not None and is_ours(known, owner) and not known["metadata"].get("deletionTimestamp"):
                    result.again = True  # another pass made it while this one waited
                else:
                    await self._post(resource, body, owner, result)
            return
        await self._post(resource, body, owner, result)

    async def _post(self, resource: Resource, body: Obj, owner: Obj, result: Result) -> None:
        namespace, name = body["metadata"].get("namespace"), body["metadata"]["name"]
        try:
            self._keep(resource, await self._client.create(resource, namespace, body))
            result.writes += 1
            self._remember(resource, namespace, name, owner)
        except errors.AlreadyExists:
            if resource.kind != "Secret":  # never read: the name itself carries our uid
                await self._look_at(resource, namespace, name, owner, result)
        except (errors.Forbidden, errors.Invalid, errors.BadRequest) as error:
            if "being terminated" in error.message:
                return
            result.refused = f"{resource.kind} {name} is not admitted: {error.message}"
            raise

    async def _stands(self, resource: Resource, namespace: str, name: str, owner: Obj) -> bool:
        """Whether it is there already, asked for where it is likely: a read costs less than a write that is refused.

        Plans ask for what is not watched anew with each attempt or revision, so that it comes back when it is lost.
        """
        if (resource.kind, namespace, name, uid_of(owner)) not in self._standing:
            return False
        try:
            found = await self._client.get(resource, namespace, name)
        except errors.NotFound:
            return False
        return is_ours(found, owner) and not found["metadata"].get("deletionTimestamp")

    def _remember(self, resource: Resource, namespace: str, name: str, owner: Obj) -> None:
        if resource.kind in Store.KINDS or resource.kind == "Secret":
            return
        self._standing[resource.kind, namespace, name, uid_of(owner)] = None
        while len(self._standing) > _REMEMBERED:
            self._standing.popitem(last=False)

    async def _look_at(self, resource: Resource, namespace: str, name: str, owner: Obj, result: Result) -> None:
        try:
            found = await self._client.get(resource, namespace, name)
        except errors.NotFound:
            result.again = True
            return
        what = f"{resource.kind}/{name}"
        if is_ours(found, owner) and not found["metadata"].get("deletionTimestamp"):
            self._remember(resource, namespace, name, owner)
            if resource.kind in Store.KINDS:  # the store missed it; other kinds are not watched, plans never see them
                self._keep(resource, found)
                result.again = True
        elif found["metadata"].get("deletionTimestamp"):
            result.error = errors.Conflict(f"{what} is still being deleted", status=409)
        elif formerly_ours(found, owner):
            result.error = errors.Conflict(f"{what} belongs to a former {owner['kind']} of this name", status=409)
        else:
            result.conflicts[what] = conflict_sentence(resource, namespace, name, found, owner)

    def _one_at_a_time(self, namespace: str, name: str) -> asyncio.Lock:
        """For a Service: all gangs of a namespace share one, and many new ones want it at the same moment."""
        return self._locks.setdefault((namespace, name), asyncio.Lock())

    async def _patch(self, patch: MergePatch, result: Result) -> None:
        if patch.resource.kind != SERVICES.kind:
            await self._send(patch, result)
            return
        async with self._one_at_a_time(patch.namespace, patch.name):
            known = self._store.get(patch.resource.kind, patch.namespace, patch.name)
            base = patch.body["metadata"].get("resourceVersion")
            if known is not None and base not in (None, known["metadata"].get("resourceVersion")):
                raise errors.Conflict(f"Service {patch.name} has changed meanwhile", status=409)
            await self._send(patch, result)

    async def _send(self, patch: MergePatch, result: Result) -> None:
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
            self._store.learn(None, answer)

    async def tell(self, note: EventNote, owner: Obj, index: int = 0) -> bool:
        """Emits an Event; whether that was done here and now."""
        event = self._event_body(note, owner, index)
        if self._announce is None:
            return await post(self._client, event)
        self._announce(event)
        return False

    def _event_body(self, note: EventNote, owner: Obj, index: int) -> Json:
        meta = owner["metadata"]
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
                "apiVersion": BY_KIND[owner["kind"]].api_version,
                "kind": owner["kind"],
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


def _owners(found: Obj, kind: str) -> list[dict[str, Any]]:
    """Owner references to objects of one of our kinds."""
    group = BY_KIND[kind].group + "/"
    refs = found["metadata"].get("ownerReferences") or ()
    return [ref for ref in refs if ref.get("kind") == kind and str(ref.get("apiVersion", "")).startswith(group)]


def is_ours(found: Obj, owner: Obj) -> bool:
    """Controlled by this object; the gang Service is shared, so any FineTuneJob's of this namespace will do."""
    owners = _owners(found, owner["kind"])
    if found.get("kind") == "Service" and found["metadata"]["name"] == GANG_SERVICE and owner["kind"] == KIND_JOB:
        return labels_of(found).get(LABEL_MANAGED_BY) == MANAGER and bool(owners)
    return any(ref.get("uid") == uid_of(owner) and ref.get("controller") for ref in owners)


def formerly_ours(found: Obj, owner: Obj) -> bool:
    """Controlled by an object of the same name and kind that was deleted; garbage collection will remove it."""
    owners = _owners(found, owner["kind"])
    return any(ref.get("name") == owner["metadata"]["name"] and ref.get("controller") for ref in owners)


def conflict_sentence(resource: Resource, namespace: str, name: str, found: Obj, owner: Obj) -> str:
    others = [f"{r.get('kind')}/{r.get('name')}" for r in found["metadata"].get("ownerReferences") or ()]
    whose = f"belongs to {', '.join(others)}" if others else f"was not made by this {owner['kind']}"
    article = "an" if resource.kind.startswith("HTTP") else "a"
    return (
        f"{article} {resource.kind} named {name} exists in namespace {namespace} and {whose}; "
        f"it is left alone: delete or rename it, or give the {owner['kind']} another name"
    )
