"""Whether a plan would see anything new.

Most passes find nothing to do, and thousands of them come together: after a resync, or when something that many jobs
share changes. `plan` is a pure function, and says itself when time alone may change its answer; so an observation equal
to the one that was found settled needs no second thought.
"""

from __future__ import annotations

from collections.abc import Hashable

from finetune_operator.core.types import Obj, Observed


def fingerprint(observed: Observed) -> Hashable:
    """Equal for two observations between which nothing changed that a plan looks at."""
    return (
        _version(observed.job),
        tuple(_version(job) for job in observed.jobs),
        tuple(_version(pod) for pod in observed.pods),
        observed.gone_pods,
        tuple(_version(observed.nodes[name]) for name in sorted(observed.nodes)),
        _service(observed.gang_service),
        observed.sample,
        tuple(sorted(observed.conflicts.items())),
        observed.fresh,
    )


def _version(obj: Obj) -> tuple[str, str]:
    meta = obj["metadata"]
    return meta.get("uid", ""), meta.get("resourceVersion", "")


def _service(service: Obj | None) -> Hashable:
    """Shared by all jobs of a namespace: of it only existence, deletion and owners bear on a plan."""
    if service is None:
        return None
    meta = service["metadata"]
    owners = tuple(ref.get("uid", "") for ref in meta.get("ownerReferences") or ())
    labels = tuple(sorted((meta.get("labels") or {}).items()))
    return meta.get("uid", ""), meta.get("deletionTimestamp"), owners, labels
