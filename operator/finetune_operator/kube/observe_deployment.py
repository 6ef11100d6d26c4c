"""One ModelDeployment and all that bears on it, put together for one plan.

As for a FineTuneJob, a label is a claim and an ownerReference is proof. Engine pods are two owners away: their
ReplicaSet is not watched, but its name is its Deployment's and a hash, and it never changes hands. So a pod counts when
a ReplicaSet of that name controls it and this ModelDeployment (by uid) controls the Deployment of the pod's revision.
"""

from __future__ import annotations

from collections.abc import Mapping

from finetune_operator.core.names import LABEL_DEPLOYMENT, LABEL_REVISION
from finetune_operator.core.objects import labels_of, name_of, uid_of
from finetune_operator.core.selectors import matches
from finetune_operator.core.serving.types import Claim, DeploymentObserved, Engines
from finetune_operator.core.types import (
    DEPLOYMENTS,
    FINETUNEJOBS,
    HTTPROUTES,
    JOBS,
    MODELDEPLOYMENTS,
    PODS,
    SERVICES,
    Obj,
)
from finetune_operator.kube.client import Client
from finetune_operator.kube.compact import Json
from finetune_operator.kube.facts import controller_of, controller_uid, created
from finetune_operator.kube.fresh import read_children, read_object
from finetune_operator.kube.keys import Key
from finetune_operator.kube.references import job_selector, model_of, referenced_job
from finetune_operator.kube.store import Store


def observe_deployment(
    store: Store, key: Key, *, engines: Engines | None = None, conflicts: Mapping[str, str] | None = None
) -> DeploymentObserved | None:
    """From the store; None when the ModelDeployment is not there."""
    deployment = store.find(key)
    if deployment is None:
        return None
    return _assemble(store, key, deployment, engines=engines, conflicts=conflicts or {}, fresh=False)


async def observe_deployment_fresh(
    client: Client,
    store: Store,
    key: Key,
    *,
    engines: Engines | None = None,
    conflicts: Mapping[str, str] | None = None,
    gateway_api: bool = True,
) -> DeploymentObserved | None:
    """As `observe_deployment`, after the store took in what the API server says now about it, its children, and the
    FineTuneJob it names."""
    if (deployment := await read_object(client, store, MODELDEPLOYMENTS, *key.ref)) is None:
        return None
    if name := referenced_job(model_of(deployment)):
        await read_object(client, store, FINETUNEJOBS, key.namespace, name)
    children = (DEPLOYMENTS, SERVICES, JOBS, PODS, *((HTTPROUTES,) if gateway_api else ()))
    await read_children(client, store, children, key, LABEL_DEPLOYMENT)
    newest = store.find(key)
    if newest is None:
        return None
    return _assemble(store, key, newest, engines=engines, conflicts=conflicts or {}, fresh=True)


def _assemble(
    store: Store,
    key: Key,
    deployment: Json,
    *,
    engines: Engines | None,
    conflicts: Mapping[str, str],
    fresh: bool,
) -> DeploymentObserved:
    uid = uid_of(deployment)

    def ours(kind: str) -> list[Json]:
        return [child for child in store.children(kind, key) if controller_uid(child) == uid]

    children, jobs = ours("Deployment"), ours("Job")
    job_uids = {uid_of(job) for job in jobs}
    revisions = {name_of(child): labels_of(child).get(LABEL_REVISION) for child in children}
    pods = [pod for pod in store.children("Pod", key) if controller_uid(pod) in job_uids or _is_engine(pod, revisions)]
    gone = [pod for job in jobs for pod in store.gone_pods(uid_of(job))]
    return DeploymentObserved(
        deployment=deployment,
        children=tuple(children),
        services=tuple(ours("Service")),
        route=next((route for route in ours("HTTPRoute") if name_of(route) == key.name), None),
        jobs=tuple(jobs),
        pods=tuple(pods + gone),
        gone_pods=frozenset(uid_of(pod) for pod in gone),
        fine_tune_jobs=tuple(_fine_tune_jobs(store, key, deployment)),
        claims={address: _oldest(others) for address, others in store.neighbours(key).items()},
        engines=engines,
        conflicts=dict(conflicts),
        fresh=fresh,
    )


def _is_engine(pod: Obj, revisions: Mapping[str, str | None]) -> bool:
    """`revisions`: of our Deployments, by name."""
    owner = controller_of(pod)
    if owner is None or owner.get("kind") != "ReplicaSet":
        return False
    deployment = str(owner.get("name", "")).rpartition("-")[0]
    revision = labels_of(pod).get(LABEL_REVISION)
    return revision is not None and revisions.get(deployment) == revision


def _fine_tune_jobs(store: Store, key: Key, deployment: Obj) -> list[Json]:
    model = model_of(deployment)
    if name := referenced_job(model):
        job = store.get(FINETUNEJOBS.kind, key.namespace, name)
        return [job] if job is not None else []
    if (selector := job_selector(model)) is None:
        return []
    jobs = store.in_namespace(FINETUNEJOBS.kind, key.namespace)
    return sorted((job for job in jobs if matches(selector, labels_of(job))), key=name_of)


def _oldest(others: list[Json]) -> Claim:
    claims = [Claim("/".join((o["metadata"]["namespace"], name_of(o))), created(o)) for o in others]
    return min(claims, key=lambda claim: (claim.created, claim.owner))
