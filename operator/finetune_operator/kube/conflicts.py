"""Names that somebody else holds, remembered per object that wants them until a look at the API server shows them free.

A plan that knows of a conflict stops trying to create the object, so nothing else would notice that it went away. The
operator does not watch objects that are not its own; it looks again at most every `recheck` seconds.
"""

from __future__ import annotations

from collections.abc import Mapping

from finetune_operator.core.types import BY_KIND, Obj
from finetune_operator.kube import errors
from finetune_operator.kube.client import Client
from finetune_operator.kube.execute import conflict_sentence, is_ours
from finetune_operator.kube.keys import Key

RECHECK = 15.0


class Conflicts:
    def __init__(self, client: Client, *, recheck: float = RECHECK) -> None:
        self._client = client
        self._recheck = recheck
        self._known: dict[Key, dict[str, str]] = {}
        self._looked: dict[Key, float] = {}

    def of(self, key: Key) -> Mapping[str, str]:
        return self._known.get(key, {})

    def add(self, key: Key, found: Mapping[str, str], clock: float) -> None:
        self._known.setdefault(key, {}).update(found)
        self._looked[key] = clock

    def forget(self, key: Key) -> None:
        self._known.pop(key, None)
        self._looked.pop(key, None)

    async def refresh(self, key: Key, owner: Obj, clock: float) -> None:
        """Looks at each name again when it is time. `clock` is monotonic, in seconds."""
        known = self._known.get(key)
        if not known or clock - self._looked[key] < self._recheck:
            return
        self._looked[key] = clock
        for what in list(known):
            kind, _, name = what.partition("/")
            resource = BY_KIND[kind]
            try:
                found = await self._client.get(resource, key.namespace, name)
            except errors.NotFound:
                del known[what]
                continue
            if is_ours(found, owner):
                del known[what]
            else:
                known[what] = conflict_sentence(resource, key.namespace, name, found, owner)
        if not known:
            self.forget(key)
