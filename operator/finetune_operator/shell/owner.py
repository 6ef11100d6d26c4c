"""What the operator makes for itself belongs to its CRD.

Its key and its Lease survive `helm uninstall`, so that an operator installed again still talks to the pods that run
meanwhile. With the CRD gone there is nothing left to run, and the garbage collector takes them, too.
"""

from __future__ import annotations

from finetune_operator.core.objects import uid_of
from finetune_operator.core.types import CRDS, FINETUNEJOBS
from finetune_operator.kube import errors
from finetune_operator.kube.client import Client
from finetune_operator.kube.compact import Json

CRD = f"{FINETUNEJOBS.plural}.{FINETUNEJOBS.group}"


async def crd_reference(client: Client) -> list[Json]:
    """Owner references for our own objects; none while the CRD is absent or may not be read."""
    try:
        crd = await client.get(CRDS, None, CRD)
    except (errors.NotFound, errors.Forbidden):
        return []
    return [{"apiVersion": CRDS.api_version, "kind": CRDS.kind, "name": CRD, "uid": uid_of(crd)}]
