"""How many engine pods each revision gets, and how much weight those that are ready can carry.

Never more than `replicas + maxSurge` pods, never a weight that its ready pods cannot serve. Where the surge is too
small for a step, capacity moves over in rungs: the candidate grows by what is free, takes the weight it can carry,
stable shrinks by as much, and so on. Each pass computes one rung from what is observed.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    canary: int
    stable: int
    weight: int
    """Percent for the canary, at most the step's."""


def share(replicas: int, percent: int) -> int:
    """Pods for a percentage of the traffic that `replicas` pods carry, rounded up."""
    return -(-replicas * percent // 100)


def sizes(
    *, replicas: int, surge: int, target: int, route_weight: int, canary: int, canary_ready: int, stable: int
) -> Sizes:
    """`target` is the step's weight (0 before the first), `route_weight` what the route gives the canary now; `canary`
    and `stable` are the pods asked for so far, `canary_ready` those that can answer."""
    full = max(1, share(replicas, target))
    free = replicas + surge - stable
    wanted = min(full, max(canary, free))
    if canary_ready >= full:
        weight = target
    else:
        weight = min(target, 100 * canary_ready // replicas)
    # A third of the traffic is 33 %: weights are whole, so one point less than the rest is what stable must carry.
    rest = 100 - route_weight - (1 if route_weight else 0)
    kept = max(share(replicas, max(0, rest)), replicas + surge - full)
    return Sizes(canary=wanted, stable=min(replicas, kept), weight=weight)
