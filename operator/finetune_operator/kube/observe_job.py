"""One FineTuneJob and all that bears on it, put together for one plan.

Usually from the store, which may be a moment old. Before anything destructive a plan asks for a fresh read: the job
first, then its Jobs and pods, straight from the API server.

A label is a claim, an ownerReference is proof: Jobs and the preflight pod count only when this very FineTuneJob (by
uid) controls them, pods when one of those Jobs does. Pods whose Job is already gone still hold GPUs, so they count as
well unless they are older than the FineTuneJob.
"""

from __future__ import annotations

from collections.abc import Mapping

from finetune_operator.core.names import GANG_SERVICE, LABEL_JOB
from finetune_operator.core.objects import uid_of
from finetune_operator.core.types import FINETUNEJOBS, JOBS, PODS, Observed, Sample
from finetune_operator.kube.client import Client
from finetune_operator.kube.compact import Json
from finetune_operator.kube.facts import controller_uid, created, node_of
from finetune_operator.kube.fresh import read_children, read_object
from finetune_operator.kube.keys import Key
from finetune_operator.kube.store import Store


def observe_job(
    store: Store, key: Key, *, sample: Sample | None = None, conflicts: Mapping[str, str] | None = None
) -> Observed | None:
    """From the store; None when the FineTuneJob is not there."""
    job = store.find(key)
    if job is None:
        return None
    return _assemble(store, key, job, sample=sample, conflicts=conflicts or {}, fresh=False)


async def observe_job_fresh(
    client: Client,
    store: Store,
    key: Key,
    *,
    sample: Sample | None = None,
    conflicts: Mapping[str, str] | None = None,
) -> Observed | None:
    """As `observe_job`, after the store took in what the API server says now about the job, its Jobs and its pods."""
    if await read_object(client, store, FINETUNEJOBS, *key.ref) is None:
        return None
    await read_children(client, store, (JOBS, PODS), key, LABEL_JOB)
    newest = store.find(key)
    if newest is None:
        return None
    return _assemble(store, key, newest, sample=sample, conflicts=conflicts or {}, fresh=True)


def _assemble(
    store: Store, key: Key, job: Json, *, sample: Sample | None, conflicts: Mapping[str, str], fresh: bool
) -> Observed:
    uid = uid_of(job)
    labelled = store.children("Job", key)
    jobs = [j for j in labelled if controller_uid(j) == uid]
    ours = {uid_of(j) for j in jobs}
    foreign = {uid_of(j) for j in labelled} - ours
    pods = [p for p in store.children("Pod", key) if _is_ours(p, job, uid, ours, foreign)]
    gone = [p for j in jobs for p in store.gone_pods(uid_of(j))]
    names = {n for p in pods + gone if (n := node_of(p)) is not None}
    return Observed(
        job=job,
        jobs=tuple(jobs),
        pods=tuple(pods + gone),
        gone_pods=frozenset(uid_of(p) for p in gone),
        nodes={n: node for n in names if (node := store.node(n)) is not None},
        gang_service=store.get("Service", key.namespace, GANG_SERVICE),
        sample=sample,
        conflicts=dict(conflicts),
        fresh=fresh,
    )


def _is_ours(pod: Json, job: Json, uid: str, ours: set[str], foreign: set[str]) -> bool:
    owner = controller_uid(pod)
    if owner is None or owner in foreign:
        return False
    if owner == uid or owner in ours:
        return True
    kinds = [r.get("kind") for r in pod["metadata"].get("ownerReferences") or () if r.get("controller")]
    return kinds == ["Job"] and created(pod) >= created(job)
