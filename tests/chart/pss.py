"""The restricted Pod Security Standard, as the admission plugin checks it, for pod specs on the page.

https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
    "image",
}


def violations(pod: Mapping[str, Any]) -> list[str]:
    """What the restricted standard would refuse in a pod spec; empty when it passes."""
    return list(_pod(pod))


def _pod(pod: Mapping[str, Any]) -> Iterator[str]:
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(field):
            yield f"{field} is true"
    for volume in pod.get("volumes", []):
        for kind in set(volume) - {"name"} - VOLUMES:
            yield f"volume {volume['name']} is a {kind}"
    shared = pod.get("securityContext", {})
    for group in ("initContainers", "containers", "ephemeralContainers"):
        for container in pod.get(group, []):
            for words in _container(container, shared):
                yield f"{container['name']}: {words}"


def _container(container: Mapping[str, Any], shared: Mapping[str, Any]) -> Iterator[str]:
    own = container.get("securityContext", {})

    def effective(field: str) -> Any:
        return own.get(field, shared.get(field))

    if own.get("privileged"):
        yield "privileged"
    if own.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation is not false"
    if "ALL" not in own.get("capabilities", {}).get("drop", []):
        yield "capabilities.drop lacks ALL"
    if extra := set(own.get("capabilities", {}).get("add", [])) - {"NET_BIND_SERVICE"}:
        yield f"capabilities.add has {sorted(extra)}"
    if effective("runAsNonRoot") is not True:
        yield "runAsNonRoot is not true"
    if effective("runAsUser") == 0:
        yield "runAsUser is 0"
    if (effective("seccompProfile") or {}).get("type") not in ("RuntimeDefault", "Localhost"):
        yield "seccompProfile is neither RuntimeDefault nor Localhost"
    if any("hostPort" in port for port in container.get("ports", [])):
        yield "hostPort"
