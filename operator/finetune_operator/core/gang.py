"""The namespace's one headless Service lives as long as one of its owners.

Every job may be an owner, up to `_OWNERS` at a time: the garbage collector removes the Service with the last of
them, also when no operator is left. A Service per gang would cost more writes and make the endpoints controllers
quadratic.
"""

from __future__ import annotations

from finetune_operator.core.builders.attempt import build_gang_service
from finetune_operator.core.builders.restricted import owner_reference
from finetune_operator.core.draft import Draft
from finetune_operator.core.names import GANG_SERVICE, LABEL_MANAGED_BY, MANAGER
from finetune_operator.core.objects import is_deleting, labels_of, owned_by
from finetune_operator.core.types import SERVICES, MergePatch

_OWNERS = 4


def ensure_gang_service(d: Draft) -> None:
    """Create the Service, or become one of its owners while there are few."""
    service = d.observed.gang_service
    if service is None or is_deleting(service):
        d.creates.append(build_gang_service(d.job))
        return
    if labels_of(service).get(LABEL_MANAGED_BY) != MANAGER or owned_by(service, d.uid):
        return
    owners = service["metadata"].get("ownerReferences") or []
    if len(owners) >= _OWNERS:
        return
    d.patches.append(
        MergePatch(
            SERVICES,
            d.namespace,
            GANG_SERVICE,
            {
                "metadata": {
                    "resourceVersion": service["metadata"]["resourceVersion"],
                    "ownerReferences": [*owners, owner_reference(d.job, controller=False)],
                }
            },
        )
    )
