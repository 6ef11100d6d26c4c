"""`podFailurePolicy`: what the failure of one pod means for its Job."""

from __future__ import annotations

from .base import Obj


def judge(job: Obj, pod: Obj) -> tuple[str, str]:
    """(action, message): the first matching rule's action, or Count."""
    policy = job["spec"].get("podFailurePolicy") or {}
    name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
    for i, rule in enumerate(policy.get("rules") or []):
        if "onExitCodes" in rule:
            container = _exit_code_matches(rule["onExitCodes"], pod)
            if container is not None:
                where, code = container
                what = f"Container {where} for pod {name} failed with exit code {code}"
                return rule["action"], f"{what} matching {rule['action']} rule at index {i}"
        elif any(_condition_matches(pattern, pod) for pattern in rule.get("onPodConditions") or []):
            return rule["action"], f"Pod {name} has condition matching {rule['action']} rule at index {i}"
    return "Count", ""


def _exit_code_matches(rule: Obj, pod: Obj) -> tuple[str, int] | None:
    status = pod.get("status", {})
    for container in [*status.get("containerStatuses", []), *status.get("initContainerStatuses", [])]:
        if rule.get("containerName") not in (None, container["name"]):
            continue
        ended = container["state"].get("terminated")
        if not ended or ended["exitCode"] == 0:
            continue
        inside = ended["exitCode"] in rule["values"]
        if inside == (rule["operator"] == "In"):
            return container["name"], ended["exitCode"]
    return None


def _condition_matches(pattern: Obj, pod: Obj) -> bool:
    wanted = (pattern["type"], pattern.get("status", "True"))
    return any((c["type"], c["status"]) == wanted for c in pod.get("status", {}).get("conditions") or [])
