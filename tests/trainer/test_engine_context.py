"""The self-test before work is trusted to a device: what it finds, and who it names."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from finetune_api.exitcodes import ExitCode
from finetune_trainer.common.errors import RunError
from finetune_trainer.engine import context
from finetune_trainer.engine.context import Place, complaints, self_test

ALONE = Place(0, 0, 1, torch.device("cpu"))
GOOD = {"world": 4, "product": 64.0, "total": 10.0, "alike": True, "versions": "torch 2"}


@pytest.fixture
def group(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_a_healthy_rank_has_no_complaints() -> None:
    assert complaints(**GOOD) == []


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"product": 63.5}, "a 64x64 bf16 product gave 63.5, expected 64"),
        ({"product": float("nan")}, "gave nan"),
        ({"total": 7.0}, "all-reduce over 4 ranks gave 7, expected 10"),
        ({"alike": False}, "the ranks run different software, this one torch 2: use one image for all pods"),
    ],
)
def test_each_fault_has_its_words(fault: dict[str, float], words: str) -> None:
    (found,) = complaints(**{**GOOD, **fault})
    assert words in found


def test_a_broken_sum_does_not_accuse_the_software() -> None:
    assert len(complaints(**{**GOOD, "total": 0.0, "alike": False})) == 1


@pytest.mark.parametrize(("numbers", "alike"), [([7, 7, 7], True), ([4294967295] * 3, True), ([7, 8, 7], False)])
def test_other_versions_are_seen_by_every_rank(numbers: list[int], alike: bool) -> None:
    total, squares = float(sum(numbers)), float(sum(n * n for n in numbers))
    assert {context._equal(len(numbers), mine, total, squares) for mine in numbers} == {alike}


def test_opposite_deviations_do_not_cancel() -> None:
    numbers = [6, 7, 8]
    assert not context._equal(3, 7, float(sum(numbers)), float(sum(n * n for n in numbers)))


@pytest.mark.usefixtures("group")
def test_it_passes_here() -> None:
    self_test(ALONE)


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize("broken", ["wrong", "raises"])
def test_what_fails_names_rank_host_and_device(monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    def product(_device: torch.device) -> float:
        if broken == "raises":
            raise RuntimeError("CUDA error: uncorrectable ECC error\nCompile with TORCH_USE_CUDA_DSA")
        return 0.0

    monkeypatch.setattr(context, "_product", product)
    with pytest.raises(RunError) as caught:
        self_test(ALONE)
    assert caught.value.code is ExitCode.DEVICE
    assert f"self-test on rank 0 in {platform.node()} on cpu ({platform.machine()})" in caught.value.message
    assert "\n" not in caught.value.message
