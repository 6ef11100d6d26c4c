"""Whose turn it is: a key names one object of one of the kinds that users write.

Everything else in the cluster matters only because it belongs to such an object, or because one refers to it. A label
says to which; it is a claim that wakes a plan, never proof of ownership.
"""

from __future__ import annotations

from typing import NamedTuple

from finetune_operator.core.names import LABEL_DEPLOYMENT, LABEL_JOB
from finetune_operator.core.objects import labels_of
from finetune_operator.core.types import FINETUNEJOBS, MODELDEPLOYMENTS, Obj, Resource

Ref = tuple[str, str]
"""(namespace, name) of any object; the namespace of a node is empty."""
PLANNED: tuple[Resource, ...] = (FINETUNEJOBS, MODELDEPLOYMENTS)
"""The kinds that users write, and that are planned."""
_LABELS = {LABEL_JOB: FINETUNEJOBS.kind, LABEL_DEPLOYMENT: MODELDEPLOYMENTS.kind}


class Key(NamedTuple):
    kind: str
    namespace: str
    name: str

    @property
    def ref(self) -> Ref:
        return self.namespace, self.name

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


def job_key(namespace: str, name: str) -> Key:
    return Key(FINETUNEJOBS.kind, namespace, name)


def deployment_key(namespace: str, name: str) -> Key:
    return Key(MODELDEPLOYMENTS.kind, namespace, name)


def ref_of(obj: Obj) -> Ref:
    meta = obj["metadata"]
    return meta.get("namespace") or "", meta["name"]


def key_of(obj: Obj) -> Key:
    """Of an object that is planned for itself."""
    return Key(str(obj["kind"]), *ref_of(obj))


def owner_key(obj: Obj) -> Key | None:
    """The object a child's label names."""
    labels = labels_of(obj)
    for label, kind in _LABELS.items():
        if name := labels.get(label):
            return Key(kind, obj["metadata"].get("namespace") or "", name)
    return None
