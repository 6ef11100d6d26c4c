"""Distillation: sums that do not depend on grouping, a teacher that stays as it is, and a student that learns it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from finetune_api.method import Method
from finetune_api.objective import Objective, teacher_of
from finetune_api.objective_distill import DistillSettings
from finetune_trainer.common.errors import SpecError
from finetune_trainer.engine.batch import Example, without_targets
from finetune_trainer.engine.loss import target_loss_sum
from finetune_trainer.methods.choose import method_of
from finetune_trainer.objectives.distill import PARTS, Distill, load_teacher
from tests.trainer import small

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
TEACHER = {"uri": "s3://team-a/teacher", "secretRef": {"name": "teacher-s3"}}
FIRST_ANSWER, ANSWERS = 40, 4


def settings(**fields: Any) -> DistillSettings:
    return DistillSettings.model_validate({"teacher": TEACHER, **fields})


def example(*ids: int, prompt: int = 2) -> Example:
    return np.asarray(ids, dtype=np.int32), np.arange(len(ids)) >= prompt


EXAMPLES = [example(5, 6, 7, 8), example(3, 4, 12), example(20, 21, 22, 23, 24, prompt=3)]
WHOLE = range(len(EXAMPLES))


@pytest.fixture(scope="module")
def models() -> tuple[Any, Any]:
    """(student, teacher)."""
    return small.model(0), small.model(1)


def test_what_the_manifest_says() -> None:
    assert settings().teacher_share == 0
    assert settings(loss="ReverseKL").teacher_share == 1
    assert settings(loss="JSD").teacher_share == 0.5
    assert settings(loss="JSD", beta="0.1").teacher_share == 0.1


@pytest.mark.parametrize(
    "field",
    [{"beta": "0"}, {"beta": "1"}, {"temperature": "0"}, {"weight": "0"}, {"weight": "1.5"}, {"loss": "KL"}],
)
def test_what_has_no_meaning_is_refused(field: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        settings(**field)


@pytest.mark.parametrize("loss", ["ForwardKL", "ReverseKL", "JSD"])
@pytest.mark.parametrize("groups", [[[0], [1], [2]], [[2, 0], [1]]])
def test_sums_do_not_depend_on_grouping(models: tuple[Any, Any], loss: str, groups: list[list[int]]) -> None:
    student, teacher = models
    objective = Distill(settings(loss=loss, weight="0.7", temperature="2"), teacher)
    with torch.no_grad():
        whole = objective.sums(student, objective.collate(EXAMPLES, WHOLE, 0))
        apart = [objective.sums(student, objective.collate(EXAMPLES, group, 0)) for group in groups]
    assert objective.weight(EXAMPLES, WHOLE) == 5
    assert sum(float(sums.loss) for sums in apart) == pytest.approx(float(whole.loss), abs=1e-5)
    for number, part in enumerate(whole.parts):
        assert sum(float(sums.parts[number]) for sums in apart) == pytest.approx(float(part), abs=1e-5)


def test_the_rest_of_the_weight_is_that_of_the_records(models: tuple[Any, Any]) -> None:
    student, teacher = models
    objective = Distill(settings(weight="0.25"), teacher)
    batch = objective.collate(EXAMPLES, WHOLE, 0)
    with torch.no_grad():
        found = objective.sums(student, batch)
        divergence, told = (float(part) for part in found.parts)
        assert PARTS == ("divergence", "targetLoss")
        assert told == pytest.approx(float(target_loss_sum(student, batch)), rel=1e-6)
    assert float(found.loss) == pytest.approx(0.25 * divergence + 0.75 * told, rel=1e-6)


def test_an_empty_batch_adds_nothing(models: tuple[Any, Any]) -> None:
    student, teacher = small.model(0), models[1]
    objective = Distill(settings(loss="JSD", weight="0.5"), teacher)
    sums = objective.sums(student, without_targets(objective.collate(EXAMPLES, [0], 0)))
    sums.loss.backward()  # type: ignore[no-untyped-call]
    assert sums.loss.item() == 0
    assert all(float(part) == 0 for part in sums.parts)
    assert all(float(p.grad.abs().max()) == 0 for p in student.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    "method",
    [
        "FullFineTune",
        "Freeze",
        "LoRA",
        "DoRA",
        "AdaLoRA",
        "IA3",
        "Prefix",
        "Prompt",
        "PTuning",
        "PTuningV2",
        "Bottleneck",
    ],
)
def test_every_method_gets_a_gradient_and_the_teacher_none(models: tuple[Any, Any], method: str) -> None:
    teacher = models[1].eval().requires_grad_(False)
    block = {"freeze": {"lastLayers": 1}} if method == "Freeze" else {}
    student = method_of(Method.model_validate({"type": method, **block})).apply(small.model(0)).train()
    objective = Distill(settings(), teacher)
    objective.sums(student, objective.collate(EXAMPLES, WHOLE, 0)).loss.backward()  # type: ignore[no-untyped-call]
    norms = [float(p.grad.norm()) for p in student.parameters() if p.requires_grad and p.grad is not None]
    assert max(norms) > 0
    assert all(p.grad is None for p in teacher.parameters())


def lesson(*, right: bool) -> list[Example]:
    """The answer follows from the first token; or the records are all wrong about it, each in the same way."""
    found = []
    for first in range(5, 21):
        for second in (30, 31, 32):
            answer = FIRST_ANSWER + (first + (0 if right else 1)) % ANSWERS
            found.append(example(first, second, 33, answer, prompt=3))
    return found


def learn(model: Any, sums: Any, examples: list[Example], steps: int) -> list[float]:
    model.train()
    optimizer, losses = torch.optim.AdamW(model.parameters(), lr=2e-3), []
    for _ in range(steps):
        loss = sums(model, examples) / len(examples)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    model.eval()
    return losses


def share_right(model: Any, examples: list[Example]) -> float:
    ids = torch.tensor(np.stack([ids for ids, _ in examples])).long()
    with torch.no_grad():
        said = model(input_ids=ids[:, :-1]).logits[:, -1].argmax(-1)
    return float((said == ids[:, -1]).float().mean())


@pytest.mark.slow
def test_the_student_learns_from_the_teacher_what_the_records_have_wrong() -> None:
    right, wrong = lesson(right=True), lesson(right=False)
    teacher, student = small.model(1), small.model(0)
    objective = Distill(settings(), teacher)
    learn(teacher, lambda m, e: target_loss_sum(m, objective.collate(e, range(len(e)), 0)), right, 25)
    assert share_right(teacher, right) == 1
    before = [p.clone() for p in teacher.parameters()]
    losses = learn(student, lambda m, e: objective.sums(m, objective.collate(e, range(len(e)), 0)).loss, wrong, 25)
    assert losses[-1] < losses[0] / 10
    assert share_right(student, right) == 1
    assert share_right(student, wrong) == 0
    assert all(torch.equal(p, q) for p, q in zip(before, teacher.parameters(), strict=True))


def test_a_teacher_of_another_vocabulary_is_refused(models: tuple[Any, Any], tmp_path: Path) -> None:
    spec = small.config(tmp_path, {"objective": {"type": "Distill", "distill": {"teacher": TEACHER}}}).spec
    teacher = small.model(1)
    teacher.save_pretrained(tmp_path / "teacher")
    teacher.resize_token_embeddings(teacher.config.vocab_size + 8, mean_resizing=False)
    teacher.save_pretrained(tmp_path / "wider")
    with pytest.raises(SpecError, match="name a teacher with its vocabulary"):
        load_teacher(spec, tmp_path / "wider", models[0].config.vocab_size, torch.device("cpu"))
    loaded = load_teacher(spec, tmp_path / "teacher", models[0].config.vocab_size, torch.device("cpu"))
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())


def test_only_distill_has_a_teacher(tmp_path: Path) -> None:
    assert teacher_of(small.config(tmp_path).spec) is None
    objective = Objective.model_validate({"type": "Distill", "distill": {"teacher": TEACHER}})
    assert objective.distill is not None
    assert objective.distill.teacher.uri == TEACHER["uri"]
