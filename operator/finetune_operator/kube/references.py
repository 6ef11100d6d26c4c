"""Which ModelDeployments look at which FineTuneJobs, and at whose address.

A ModelDeployment serves what a FineTuneJob published, found by name or by labels, and shares a Gateway with others.
When one of those changes it must be planned again although nothing of its own did. Only changes that a plan can see
count: a training run writes its progress every few seconds, and nobody who waits for its output has to be told.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from finetune_operator.core.objects import labels_of, uid_of
from finetune_operator.core.selectors import matches
from finetune_operator.core.types import Obj
from finetune_operator.kube.compact import Json
from finetune_operator.kube.keys import Key, Ref, deployment_key, ref_of

Address = tuple[str, str]
"""(hostname or "", path)"""
Claims = Callable[[Obj], Collection[Address]]


def no_claims(deployment: Obj) -> Collection[Address]:
    return ()


class References:
    """Kept up to date by the store. `claims` says what addresses a ModelDeployment serves."""

    def __init__(self, claims: Claims = no_claims) -> None:
        self._claims_of = claims
        self._by_job: defaultdict[Ref, set[Ref]] = defaultdict(set)
        self._selecting: defaultdict[str, set[Ref]] = defaultdict(set)
        self._selectors: dict[Ref, Mapping[str, Any]] = {}
        self._by_address: defaultdict[Address, set[Ref]] = defaultdict(set)
        self._addresses: dict[Ref, frozenset[Address]] = {}

    def replace(self, old: Json | None, new: Json | None) -> frozenset[Key]:
        """Takes in a change of a ModelDeployment; the others that it bears on."""
        ref = ref_of(new or old or {})
        before = self._addresses.get(ref, frozenset())
        if old is not None:
            self._remove(ref, old)
        if new is not None:
            self._add(ref, new)
        changed = before ^ self._addresses.get(ref, frozenset())
        return frozenset(deployment_key(*other) for other in self.sharing(changed) if other != ref)

    def sharing(self, addresses: Iterable[Address]) -> set[Ref]:
        """ModelDeployments that claim one of these."""
        return {ref for address in addresses for ref in self._by_address.get(address, ())}

    def addresses(self, ref: Ref) -> frozenset[Address]:
        return self._addresses.get(ref, frozenset())

    def waiting_for(self, old: Json | None, new: Json | None) -> frozenset[Key]:
        """ModelDeployments that a change of a FineTuneJob bears on."""
        if old is not None and new is not None and _seen_of_job(old) == _seen_of_job(new):
            return frozenset()
        found: set[Ref] = set()
        for job in (old, new):
            if job is not None:
                ref = ref_of(job)
                found |= self._by_job.get(ref, set())
                candidates = self._selecting.get(ref[0], ())
                found |= {d for d in candidates if matches(self._selectors[d], labels_of(job))}
        return frozenset(deployment_key(*ref) for ref in found)

    def _add(self, ref: Ref, deployment: Json) -> None:
        model = model_of(deployment)
        if name := referenced_job(model):
            self._by_job[ref[0], name].add(ref)
        if (selector := job_selector(model)) is not None:
            self._selecting[ref[0]].add(ref)
            self._selectors[ref] = selector
        claims = frozenset(self._claims_of(deployment))
        if claims:
            self._addresses[ref] = claims
        for address in claims:
            self._by_address[address].add(ref)

    def _remove(self, ref: Ref, deployment: Json) -> None:
        if name := referenced_job(model_of(deployment)):
            discard(self._by_job, (ref[0], name), ref)
        if self._selectors.pop(ref, None) is not None:
            discard(self._selecting, ref[0], ref)
        for address in self._addresses.pop(ref, ()):
            discard(self._by_address, address, ref)


def model_of(deployment: Obj) -> Mapping[str, Any]:
    """`spec.model`, whatever a broken spec holds."""
    model = (deployment.get("spec") or {}).get("model")
    return model if isinstance(model, Mapping) else {}


def referenced_job(model: Mapping[str, Any]) -> str | None:
    """The name in `spec.model.fineTuneJobRef`."""
    ref = model.get("fineTuneJobRef")
    return str(ref["name"]) if isinstance(ref, Mapping) and ref.get("name") else None


def job_selector(model: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """`spec.model.fineTuneJobSelector`."""
    selector = model.get("fineTuneJobSelector")
    return selector if isinstance(selector, Mapping) else None


def discard(index: defaultdict[Any, set[Ref]], key: Any, ref: Ref) -> None:
    refs = index.get(key)
    if refs is not None:
        refs.discard(ref)
        if not refs:
            del index[key]


def _seen_of_job(job: Json) -> tuple[Any, ...]:
    """What a ModelDeployment's plan looks at."""
    meta, status = job["metadata"], job.get("status") or {}
    seen = (status.get(k) for k in ("phase", "reason", "output"))
    return uid_of(job), meta.get("deletionTimestamp"), meta.get("generation"), labels_of(job), *seen
