"""Which addresses the operator calls: pods', and nothing else that somebody may write into a pod's status."""

from __future__ import annotations

import ipaddress


class NotAPod(Exception):
    """In a few words."""


def pod_host(ip: str, *, allow_loopback: bool = False) -> str:
    """The host part of a URL. Raises NotAPod for loopback, link-local (metadata services) and the like."""
    try:
        address = ipaddress.ip_address(ip)
    except ValueError as error:
        raise NotAPod("the pod has no valid address") from error
    forbidden = address.is_link_local or address.is_multicast or address.is_unspecified
    if forbidden or (address.is_loopback and not allow_loopback):
        raise NotAPod(f"{ip} is not a pod's address")
    return f"[{address}]" if address.version == 6 else str(address)
