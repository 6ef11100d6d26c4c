"""The operator's picture of the cluster, kept from watch events, lists and its own writes.

Events come late, twice, or out of order, and some never come. So an object is replaced only by a newer resourceVersion,
events from before an object's deletion do not bring it back, and a list decides only about what is not newer than it.
Every change answers with the keys it bears on; nothing else wakes the planner.

Pods that are gone stay as they were last seen while their Job is known: their exit codes are evidence.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, field

from finetune_operator.core.names import GANG_SERVICE
from finetune_operator.core.objects import uid_of
from finetune_operator.core.types import Obj
from finetune_operator.kube.compact import Json, compact
from finetune_operator.kube.facts import controller_uid, node_of, node_state, service_state, version_of
from finetune_operator.kube.keys import PLANNED, Key, Ref, job_key, key_of, owner_key, ref_of
from finetune_operator.kube.references import Address, Claims, References, discard, no_claims

_TOMBSTONES_PER_JOB = 64
_DEAD_UIDS = 50_000
_TERMINAL = ("Succeeded", "Failed")
_PLANNED = frozenset(resource.kind for resource in PLANNED)
NONE: frozenset[Key] = frozenset()


def _nobody(key: Key) -> None:
    return None


@dataclass
class _Table:
    objects: dict[Ref, Json] = field(default_factory=dict)
    by_owner: defaultdict[Key, set[Ref]] = field(default_factory=lambda: defaultdict(set))


class Store:
    """Watched kinds only. `claims` says what addresses a ModelDeployment serves."""

    KINDS = ("FineTuneJob", "ModelDeployment", "Job", "Pod", "Service", "Node", "Deployment", "HTTPRoute")

    def __init__(self, claims: Claims = no_claims) -> None:
        self._tables = {kind: _Table() for kind in self.KINDS}
        self._references = References(claims)
        self._by_node: defaultdict[str, set[Ref]] = defaultdict(set)
        self._gone_pods: defaultdict[str, OrderedDict[str, Json]] = defaultdict(OrderedDict)
        self._dead: OrderedDict[str, int] = OrderedDict()
        self.wake: Callable[[Key], None] = _nobody
        """Told whom else an answer to one of our own calls bears on."""

    def get(self, kind: str, namespace: str, name: str) -> Json | None:
        return self._tables[kind].objects.get((namespace, name))

    def all(self, kind: str) -> Iterable[Json]:
        return self._tables[kind].objects.values()

    def count(self, kind: str) -> int:
        return len(self._tables[kind].objects)

    def keys(self) -> list[Key]:
        """Of all objects that are planned for themselves."""
        return [Key(kind.kind, *ref) for kind in PLANNED for ref in self._tables[kind.kind].objects]

    def find(self, key: Key) -> Json | None:
        return self.get(*key)

    def children(self, kind: str, key: Key) -> list[Json]:
        """Those whose label names the key's object, by name."""
        table = self._tables[kind]
        return [table.objects[ref] for ref in sorted(table.by_owner.get(key, ()))]

    def gone_pods(self, job_uid: str) -> list[Json]:
        """Deleted pods of a known Job, as they were last seen."""
        return list(self._gone_pods.get(job_uid, {}).values())

    def node(self, name: str) -> Json | None:
        return self.get("Node", "", name)

    def in_namespace(self, kind: str, namespace: str) -> list[Json]:
        return [obj for ref, obj in self._tables[kind].objects.items() if ref[0] == namespace]

    def neighbours(self, key: Key) -> dict[Address, list[Json]]:
        """The addresses of a ModelDeployment that others claim as well, and those others."""
        shared: dict[Address, list[Json]] = {}
        for address in self._references.addresses(key.ref):
            others = sorted(self._references.sharing([address]) - {key.ref})
            if others:
                shared[address] = [self._tables[key.kind].objects[ref] for ref in others]
        return shared

    def apply(self, event: str | None, obj: Obj) -> frozenset[Key]:
        """A watch event: ADDED, MODIFIED, DELETED, or None for an object from a list or an answer to our own write."""
        kind = str(obj.get("kind") or "")
        if kind not in self._tables:
            return NONE
        if event == "DELETED":
            return self._remove(kind, obj, version_of(obj))
        return self._put(kind, obj)

    def learn(self, event: str | None, obj: Obj) -> None:
        """An answer to a call of our own, made for the object's own sake. The watch will bring it again and change
        nothing any more, so whoever else it bears on has to be woken by it."""
        own = key_of(obj) if obj.get("kind") in _PLANNED else owner_key(obj)
        for key in self.apply(event, obj):
            if key != own:
                self.wake(key)

    def prune(self, kind: str, listed: Container[Ref], version: str) -> frozenset[Key]:
        """After all of a complete list at `version` was applied: what is stored, not listed and not newer is gone."""
        return self._prune(kind, list(self._tables[kind].objects), listed, version)

    def replace_children(self, kind: str, key: Key, objects: Iterable[Obj], version: str) -> frozenset[Key]:
        """Takes in a complete list, at `version`, of one kind of children."""
        known = list(self._tables[kind].by_owner.get(key, ()))
        affected: set[Key] = set()
        listed: set[Ref] = set()
        for obj in objects:
            listed.add(ref_of(obj))
            affected |= self._put(kind, obj)
        return frozenset(affected) | self._prune(kind, known, listed, version)

    def _prune(self, kind: str, known: Iterable[Ref], listed: Container[Ref], version: str) -> frozenset[Key]:
        affected: set[Key] = set()
        limit = int(version) if version.isdigit() else 0
        for ref in known:
            old = self._tables[kind].objects.get(ref)
            if old is not None and ref not in listed and version_of(old) <= limit:
                affected |= self._remove(kind, old, limit)
        return frozenset(affected)

    def _put(self, kind: str, obj: Obj) -> frozenset[Key]:
        uid = uid_of(obj)
        ref = ref_of(obj)
        if version_of(obj) <= self._dead.get(uid, -1):
            return NONE
        old = self._tables[kind].objects.get(ref)
        affected = NONE
        if old is not None:
            if uid_of(old) == uid and version_of(obj) <= version_of(old):
                return NONE
            if uid_of(old) != uid:
                if version_of(obj) < version_of(old):
                    return NONE
                affected = self._remove(kind, old, version_of(obj))
                old = None
        new = compact(kind, dict(obj))
        self._index(kind, ref, new)
        return affected | self._affected(kind, old, new)

    def _remove(self, kind: str, obj: Obj, at: int) -> frozenset[Key]:
        """`at`: the resourceVersion by which the object is known to be gone."""
        ref = ref_of(obj)
        self._bury(uid_of(obj), at)
        old = self._tables[kind].objects.get(ref)
        if old is None or uid_of(old) != uid_of(obj):
            return NONE
        last = compact(kind, dict(obj)) if version_of(obj) >= version_of(old) else old
        self._unindex(kind, ref, old)
        self._tables[kind].objects.pop(ref, None)
        if kind == "Pod":
            self._keep_evidence(last)
        if kind == "Job":
            self._gone_pods.pop(uid_of(old), None)
        return self._affected(kind, old, None)

    def _index(self, kind: str, ref: Ref, new: Json) -> None:
        table = self._tables[kind]
        old = table.objects.get(ref)
        if old is not None:
            self._unindex(kind, ref, old)
        table.objects[ref] = new
        key = owner_key(new)
        if key is not None and kind not in _PLANNED:
            table.by_owner[key].add(ref)
        if kind == "Pod" and (node := node_of(new)):
            self._by_node[node].add(ref)

    def _unindex(self, kind: str, ref: Ref, old: Json) -> None:
        key = owner_key(old)
        if key is not None:
            discard(self._tables[kind].by_owner, key, ref)
        if kind == "Pod" and (node := node_of(old)):
            discard(self._by_node, node, ref)

    def _bury(self, uid: str, at: int) -> None:
        if uid:
            self._dead[uid] = max(at, self._dead.pop(uid, -1))
            while len(self._dead) > _DEAD_UIDS:
                self._dead.popitem(last=False)

    def _keep_evidence(self, pod: Json) -> None:
        job_uid = controller_uid(pod)
        key = owner_key(pod)
        if job_uid is None or key is None:
            return
        if not any(uid_of(job) == job_uid for job in self.children("Job", key)):
            return
        graves = self._gone_pods[job_uid]
        graves[uid_of(pod)] = pod
        while len(graves) > _TOMBSTONES_PER_JOB:
            graves.popitem(last=False)

    def _affected(self, kind: str, old: Json | None, new: Json | None) -> frozenset[Key]:
        if kind == "FineTuneJob":
            return self._references.waiting_for(old, new) | {key_of(new or old or {})}
        if kind == "ModelDeployment":
            return self._references.replace(old, new) | {key_of(new or old or {})}
        if kind == "Node":
            return self._affected_by_node(old, new)
        owners = frozenset(key for obj in (old, new) if obj is not None and (key := owner_key(obj)) is not None)
        return owners | self._affected_by_gang_service(old, new) if kind == "Service" else owners

    def _affected_by_node(self, old: Json | None, new: Json | None) -> frozenset[Key]:
        if old is not None and new is not None and node_state(old) == node_state(new):
            return NONE
        name = (new or old or {})["metadata"]["name"]
        pods = (self._tables["Pod"].objects[ref] for ref in self._by_node.get(name, ()))
        return frozenset(key for pod in pods if (key := owner_key(pod)) is not None)

    def _affected_by_gang_service(self, old: Json | None, new: Json | None) -> frozenset[Key]:
        """The gang Service is shared by a namespace. Its creation and our own changes of it matter to nobody else."""
        meta = (new or old or {})["metadata"]
        if meta["name"] != GANG_SERVICE or (old is None and new is not None):
            return NONE
        if old is not None and new is not None and service_state(old) == service_state(new):
            return NONE
        namespace = meta.get("namespace") or ""
        return frozenset(
            job_key(*ref)
            for ref, job in self._tables["FineTuneJob"].objects.items()
            if ref[0] == namespace and (job.get("status") or {}).get("phase") not in _TERMINAL
        )
