"""Reading around the watches: what the API server says now, taken into the store.

Before anything destructive a plan asks for this. The object itself is read first, then its children: what a child tells
is then never older than the wishes it is judged by.
"""

from __future__ import annotations

from collections.abc import Iterable

from finetune_operator.core.types import Resource
from finetune_operator.kube.client import Client
from finetune_operator.kube.compact import Json
from finetune_operator.kube.errors import NotFound
from finetune_operator.kube.keys import Key
from finetune_operator.kube.store import Store


async def read_object(client: Client, store: Store, resource: Resource, namespace: str, name: str) -> Json | None:
    """None when it is not there; the store then forgets it."""
    try:
        store.learn(None, await client.get(resource, namespace, name))
    except NotFound:
        gone = store.get(resource.kind, namespace, name)
        if gone is not None:
            store.learn("DELETED", gone)
        return None
    return store.get(resource.kind, namespace, name)


async def read_children(client: Client, store: Store, resources: Iterable[Resource], key: Key, label: str) -> None:
    for resource in resources:
        found, at = await client.list(resource, key.namespace, selector=f"{label}={key.name}")
        store.replace_children(resource.kind, key, found, at)
