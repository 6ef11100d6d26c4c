"""Which signs stop a gang, which only ask for a checkpoint, and which say nothing."""

from __future__ import annotations

import pytest

from finetune_operator.core.disruption import HARD_TAINTS, node_notice, node_unreachable, pod_notice
from tests.core.build import node, pod


@pytest.mark.parametrize("taint", sorted(HARD_TAINTS))
def test_every_reclaim_taint_is_hard(taint: str) -> None:
    notice = node_notice(node("n", taint=taint))
    assert notice is not None
    assert notice.hard


def test_a_cordon_is_soft_and_a_plain_taint_says_nothing() -> None:
    cordoned = node_notice(node("n", cordoned=True))
    assert cordoned is not None
    assert not cordoned.hard
    assert node_notice(node("n", taint="team.example/reserved")) is None
    assert node_notice(None) is None


def test_unreachable_is_what_the_node_controller_says() -> None:
    assert node_unreachable(node("n", ready="Unknown"))
    assert node_unreachable(node("n", taint="node.kubernetes.io/unreachable"))
    assert not node_unreachable(node("n", ready="False"))
    assert not node_unreachable(None)


def test_a_deletion_counts_only_when_it_is_not_our_own() -> None:
    assert pod_notice(pod(deleting=True), ended_by_us=True) is None
    assert pod_notice(pod(deleting=True), ended_by_us=False) is not None
    told = pod_notice(pod(disrupted="EvictionByEvictionAPI"), ended_by_us=True)
    assert told is not None
    assert told.source == "EvictionByEvictionAPI"
