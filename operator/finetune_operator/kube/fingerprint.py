"""Whether a plan would see anything new.

Most passes find nothing to do, and thousands of them come together: after a resync, or when something that many jobs
share changes. A plan is a pure function, and says itself when time alone may change its answer; so an observation equal
to the one that was found settled needs no second thought.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from finetune_operator.core.serving.types import DeploymentObserved, Engines
from finetune_operator.core.types import Obj, Observed


def fingerprint(observed: Observed | DeploymentObserved) -> Hashable:
    """Equal for two observations between which nothing changed that a plan looks at."""
    return _of_job(observed) if isinstance(observed, Observed) else _of_deployment(observed)


def _of_job(observed: Observed) -> Hashable:
    return (
        _version(observed.job),
        _versions(observed.jobs),
        _versions(observed.pods),
        observed.gone_pods,
        tuple(_version(observed.nodes[name]) for name in sorted(observed.nodes)),
        _service(observed.gang_service),
        observed.sample,
        tuple(sorted(observed.conflicts.items())),
        observed.fresh,
    )


def _of_deployment(observed: DeploymentObserved) -> Hashable:
    return (
        _version(observed.deployment),
        _versions(observed.children),
        _versions(observed.services),
        _version(observed.route) if observed.route is not None else None,
        _versions(observed.jobs),
        _versions(observed.pods),
        observed.gone_pods,
        _versions(observed.fine_tune_jobs),
        tuple(sorted(observed.claims.items(), key=lambda item: item[0])),
        _looks(observed.engines),
        tuple(sorted(observed.conflicts.items())),
        observed.fresh,
    )


def _version(obj: Obj) -> tuple[str, str]:
    meta = obj["metadata"]
    return meta.get("uid", ""), meta.get("resourceVersion", "")


def _versions(objects: Iterable[Obj]) -> Hashable:
    return tuple(_version(obj) for obj in objects)


def _service(service: Obj | None) -> Hashable:
    """Shared by all jobs of a namespace: of it only existence, deletion and owners bear on a plan."""
    if service is None:
        return None
    meta = service["metadata"]
    owners = tuple(ref.get("uid", "") for ref in meta.get("ownerReferences") or ())
    labels = tuple(sorted((meta.get("labels") or {}).items()))
    return meta.get("uid", ""), meta.get("deletionTimestamp"), owners, labels


def _looks(engines: Engines | None) -> Hashable:
    """Each round of looks is one new value; between two of them only a pod's view changes."""
    if engines is None:
        return None
    return engines.window, engines.step, engines.since, engines.looks, tuple(sorted(engines.pods.items(), key=_first))


def _first(item: tuple[str, object]) -> str:
    return item[0]
