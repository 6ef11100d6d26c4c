"""Pods stay within replicas + maxSurge, weight within what ready pods carry, and every step is reached."""

from __future__ import annotations

import itertools

import pytest

from finetune_operator.core.serving.capacity import share, sizes


def test_shares_are_rounded_up() -> None:
    assert [share(4, p) for p in (0, 1, 25, 26, 100)] == [0, 1, 1, 2, 4]


@pytest.mark.parametrize(
    ("replicas", "surge", "target"), list(itertools.product((1, 2, 3, 7, 10), (1, 2, 4), (1, 5, 20, 50, 99, 100)))
)
def test_every_weight_is_reached_within_the_surge_and_the_ready_pods(replicas: int, surge: int, target: int) -> None:
    stable, canary, ready, weight = replicas, 0, 0, 0
    for _ in range(100):
        rung = sizes(
            replicas=replicas,
            surge=surge,
            target=target,
            route_weight=weight,
            canary=canary,
            canary_ready=ready,
            stable=stable,
        )
        assert stable + rung.canary <= replicas + surge
        assert rung.weight <= target
        canary, weight = rung.canary, max(weight, rung.weight)
        assert 100 * ready >= weight * replicas or ready >= share(replicas, weight), "weight on ready pods"
        assert stable >= share(replicas, max(0, 99 - weight)), "what is left is carried"
        stable, ready = rung.stable, canary
    assert weight == target
    assert canary == max(1, share(replicas, target))
