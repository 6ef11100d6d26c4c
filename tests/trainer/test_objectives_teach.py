"""Answers written down beforehand teach what the teacher itself would have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from finetune_api.objective_distill import DistillSettings
from finetune_trainer.data.top_k import TopK, write
from finetune_trainer.data.top_k_header import Header
from finetune_trainer.engine.batch import without_targets
from finetune_trainer.objectives.distill import Distill
from finetune_trainer.objectives.divergence import binned
from finetune_trainer.objectives.teach import ask, distinct
from tests.trainer import small
from tests.trainer.test_objectives_distill import EXAMPLES, TEACHER, WHOLE

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def models() -> tuple[Any, Any]:
    """(student, teacher), further apart than two fresh models are."""
    student, teacher = small.model(0), small.model(1).eval()
    with torch.no_grad():
        teacher.lm_head.weight.mul_(20)
    return student, teacher


def live(teacher: Any, **fields: Any) -> Distill:
    return Distill(DistillSettings.model_validate({"teacher": TEACHER, **fields}), teacher)


def written(folder: Path, teacher: Any, k: int, **fields: Any) -> Distill:
    settings = DistillSettings.model_validate({"topK": {"uri": "s3://team-a/answers"}, **fields})
    objective = Distill(settings)
    said = ask(teacher, EXAMPLES, k, float(settings.temperature), 0, CPU)
    write(folder, 0, Header(k, teacher.config.vocab_size, settings.temperature), said)
    objective.answers = TopK(folder)
    return objective


def loss(objective: Distill, student: Any, indices: Any = WHOLE) -> float:
    with torch.no_grad():
        return float(objective.sums(student, objective.collate(EXAMPLES, indices, 0)).loss)


@pytest.mark.parametrize("name", ["ForwardKL", "ReverseKL", "JSD"])
def test_all_tokens_but_one_say_what_the_teacher_says(models: tuple[Any, Any], tmp_path: Path, name: str) -> None:
    student, teacher = models
    fields = {"loss": name, "temperature": "2", "weight": "0.5"}
    whole = loss(live(teacher, **fields), student)
    found = written(tmp_path, teacher, teacher.config.vocab_size - 1, **fields)
    assert loss(found, student) == pytest.approx(whole, rel=1e-5)


def test_fewer_tokens_say_less_and_never_more(models: tuple[Any, Any], tmp_path: Path) -> None:
    """A divergence cannot grow when outcomes are taken together (data processing inequality)."""
    student, teacher = models
    found = []
    for k in (1, 8, 256):
        folder = tmp_path / str(k)
        folder.mkdir()
        found.append(loss(written(folder, teacher, k), student))
    assert 0 < found[0] < found[1] < found[2] < loss(live(teacher), student)


def test_sums_do_not_depend_on_grouping(models: tuple[Any, Any], tmp_path: Path) -> None:
    objective = written(tmp_path, models[1], 8)
    apart = [loss(objective, models[0], group) for group in ([2, 0], [1])]
    assert sum(apart) == pytest.approx(loss(objective, models[0]), rel=1e-5)


def test_an_empty_batch_adds_nothing(models: tuple[Any, Any], tmp_path: Path) -> None:
    student, objective = small.model(0), written(tmp_path, models[1], 8)
    sums = objective.sums(student, without_targets(objective.collate(EXAMPLES, [0], 0)))
    sums.loss.backward()  # type: ignore[no-untyped-call]
    assert sums.loss.item() == 0


def test_the_rest_is_what_the_others_have_together() -> None:
    log_probs = torch.log(torch.tensor([[0.5, 0.2, 0.2, 0.1]]))
    found = binned(log_probs, torch.tensor([[0, 3]])).exp()
    assert found.tolist() == [pytest.approx([0.5, 0.1, 0.4])]


def test_a_record_that_is_there_twice_is_asked_about_once() -> None:
    class Twice(list[Any]):
        """As `data.dataset.Examples` repeats rows."""

    found = distinct(Twice([*EXAMPLES, *EXAMPLES]), Twice(EXAMPLES[:1]))  # type: ignore[arg-type]
    assert len(found) == len(EXAMPLES)
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(found, EXAMPLES, strict=True))
