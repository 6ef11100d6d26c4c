"""The estimate against the real thing: the peak of a training step, within 15 %."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch.distributed as dist

from tests.cells import cells
from tests.trainer.measured import Case, estimated, measured, save

pytestmark = [
    pytest.mark.slow,
    # peft 0.21 reads an attribute that transformers 5.23 renamed.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]
CASES = (
    Case(micro_batch=1),
    Case(keys=1),
    Case(length=512, layers=2),
    Case(layers=3, rank=64, accumulation=2),
    Case(targets="q_proj,v_proj"),
    Case(layers=2, precision="BF16"),
    Case(layers=2, vocabulary=16_000),
    Case(full=True),
    Case(full=True, accumulation=2),
    Case(full=True, precision="BF16"),
    Case(full=True, hidden=512, inner=1408, heads=8, keys=2, layers=2),
    Case(full=True, layers=2, vocabulary=16_000, precision="BF16"),
    Case(layers=2, vocabulary=16_000, distill="ForwardKL", precision="BF16"),
    Case(layers=2, vocabulary=16_000, distill="ReverseKL", weight="0.5"),
    Case(layers=2, vocabulary=16_000, distill="JSD", weight="0.5"),
    Case(layers=2, vocabulary=16_000, distill="ForwardKL", top_k=16),
    Case(layers=2, vocabulary=16_000, objective="DPO"),
    Case(layers=2, vocabulary=16_000, objective="DPO", precision="BF16"),
    Case(full=True, objective="DPO"),
    Case(objective="Reward"),
    Case(objective="Classification"),
    Case(objective="GRPO"),
    Case(layers=2, vocabulary=16_000, objective="GRPO", precision="BF16"),
    Case(objective="PPO"),
    Case(layers=2, vocabulary=16_000, objective="PPO", precision="BF16"),
    Case(objective="Classification", full=True),
    Case(layers=8, recompute="Full"),
    Case(layers=8, recompute="Full", precision="BF16"),
    Case(layers=8, full=True, recompute="Full", accumulation=2),
    Case(layers=8, keys=1, recompute="Selective", precision="BF16"),
    Case(layers=8, full=True, recompute="Selective", accumulation=2),
)
SHOWN = (
    Case(layers=2, precision="BF16"),
    Case(full=True),
    Case(layers=2, vocabulary=16_000, distill="ForwardKL", precision="BF16"),
    Case(full=True, objective="DPO"),
    Case(objective="PPO"),
    Case(layers=8, recompute="Full"),
)


@pytest.fixture(scope="module", autouse=True)
def alone() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("case", cells(CASES, SHOWN), ids=str)
def test_the_estimate_is_within_15_percent_of_the_peak(case: Case, tmp_path: Path) -> None:
    save(case, tmp_path / "base")
    peak, guess = measured(case, tmp_path), estimated(case, tmp_path).tensors
    print(f"| {case} | {guess / 2**20:.0f} | {peak / 2**20:.0f} | {100 * (guess / peak - 1):+.0f} % |")
    assert guess == pytest.approx(peak, rel=0.15)
