"""Every example of a job is encoded and trained, not only read: what the documentation shows can be run."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from tests.trainer import each_example
from tests.trainer.ranks import Results, run_ranks

JOBS = sorted(each_example.jobs())


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    found: Results = run_ranks("each_example.py", tmp_path_factory.mktemp("examples"), ranks=1)
    return found


def test_all_kinds_of_examples_are_among_them() -> None:
    files = {name.partition(".")[0] for name in JOBS}
    assert {"01-finetune", "gpu-dpo", "gpu-distill", "method-ia3", "retention", "chat", "template"} <= files


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", JOBS)
def test_it_trains(results: Results, name: str) -> None:
    if (objective := each_example.objective(each_example.jobs()[name])) not in each_example.RECORDS:
        pytest.skip(f"each_example.RECORDS does not say what objective {objective} learns from")
    done = results[f"{name}-1"]
    assert (done["code"], done["step"]) == (0, each_example.STEPS)
    assert len(done["losses"]) == each_example.STEPS
    rewarded = objective in each_example.REWARDED
    assert all(math.isfinite(loss) for loss in done["losses"].values())
    # What a reward model gives may have either sign.
    assert each_example.judged(each_example.jobs()[name]) or all(
        (loss > 0) != rewarded for loss in done["losses"].values()
    )
    assert all(norm > 0 for norm in done["norms"].values()), "nothing was learned"
    assert Path(done["folder"], "trainable.safetensors").is_file()
