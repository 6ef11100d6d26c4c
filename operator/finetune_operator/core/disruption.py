"""Signs that a pod's node is going away, before and after it has.

*Hard* signs stop the gang in time for a checkpoint; *soft* ones only ask for a checkpoint. A deletionTimestamp alone
is a sign only while nobody on our side ends the gang: the Job controller deletes the survivors of a failed gang, too.
"""

from __future__ import annotations

from dataclasses import dataclass

from finetune_operator.core.objects import condition, has_condition, is_deleting, name_of
from finetune_operator.core.types import Obj

HARD_TAINTS = frozenset(
    {
        "karpenter.sh/disrupted",
        "karpenter.sh/disruption",
        "aws-node-termination-handler/spot-itn",
        "aws-node-termination-handler/scheduled-maintenance",
        "aws-node-termination-handler/asg-lifecycle-termination",
        "cloud.google.com/impending-node-termination",
        "remediator.kubernetes.azure.com/unschedulable",
        "remediator.aks.microsoft.com/unschedulable",
        "ToBeDeletedByClusterAutoscaler",
        "node.cloudprovider.kubernetes.io/shutdown",
        "node.kubernetes.io/out-of-service",
    }
)
UNREACHABLE_TAINT = "node.kubernetes.io/unreachable"
_OWN_TAINTS = ("node.kubernetes.io/", "nvidia.com/gpu")
"""Taints that say nothing about the node going away."""


@dataclass(frozen=True)
class Notice:
    node: str | None
    source: str
    """Taint key, condition reason or `PodDeleted`."""
    hard: bool


def node_unreachable(node: Obj | None) -> bool:
    """The node controller no longer hears of the node; what runs there may go on."""
    if node is None:
        return False
    ready = condition(node, "Ready")
    if ready is not None and ready.get("status") == "Unknown":
        return True
    return any(taint.get("key") == UNREACHABLE_TAINT for taint in (node.get("spec") or {}).get("taints") or ())


def node_notice(node: Obj | None) -> Notice | None:
    """The strongest notice the node itself carries."""
    if node is None:
        return None
    name = name_of(node)
    taints = (node.get("spec") or {}).get("taints") or ()
    for taint in taints:
        if taint.get("key") in HARD_TAINTS:
            return Notice(name, str(taint["key"]), hard=True)
    if (node.get("spec") or {}).get("unschedulable"):
        return Notice(name, "Cordoned", hard=False)
    for taint in taints:
        key = str(taint.get("key", ""))
        if taint.get("effect") == "NoExecute" and not key.startswith(_OWN_TAINTS):
            return Notice(name, key, hard=False)
    return None


def pod_notice(pod: Obj, *, ended_by_us: bool) -> Notice | None:
    """What the pod itself shows. `ended_by_us`: its Job is failing or was deleted by the operator."""
    node = (pod.get("spec") or {}).get("nodeName")
    if has_condition(pod, "DisruptionTarget"):
        reason = str((condition(pod, "DisruptionTarget") or {}).get("reason", "DisruptionTarget"))
        return Notice(node, reason, hard=True)
    if is_deleting(pod) and not ended_by_us:
        return Notice(node, "PodDeleted", hard=True)
    return None
