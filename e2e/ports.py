"""Ports for servers that are started on this machine."""

from __future__ import annotations

import random
import socket

_RANGE = range(15000, 30000)
"""Below Linux's ephemeral ports, which any connection may take between the choice and the server's start, and below
the NodePorts of Kubernetes."""


def free_ports(count: int) -> list[int]:
    """`count` different ports of the loopback on which nothing listens now; OSError after a thousand that are taken."""
    found: list[int] = []
    for port in random.SystemRandom().sample(_RANGE, 1000):
        if len(found) == count:
            break
        with socket.socket() as tried:
            try:
                tried.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
    if len(found) < count:
        raise OSError(f"of a thousand ports between {_RANGE.start} and {_RANGE.stop}, {len(found)} are free")
    return found
