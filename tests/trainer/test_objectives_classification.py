"""A classifier's terms against torch's own losses, and its rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from finetune_api.objective import Head
from finetune_api.objective_classification import ClassificationSettings, Problem
from finetune_trainer.engine.batch import without_targets
from finetune_trainer.engine.model import load_base
from finetune_trainer.objectives.classification import Classification
from finetune_trainer.objectives.labeled import LabeledTexts, collate_labeled
from tests.trainer import small

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
LABELS = ("a", "b", "c")
WEIGHTS = {"a": "3", "c": "0.5"}
LOGITS = torch.tensor([[1.0, -0.5, 0.25], [2.0, 1.5, -1.0], [0.1, 0.3, 0.2]])


class Texts:
    """As the encoded data holds labeled texts."""

    def __init__(self, written: Sequence[tuple[list[int], list[int]]]) -> None:
        self._written = written

    def __len__(self) -> int:
        return len(self._written)

    def __getitem__(self, index: int) -> Any:
        ids = np.array(self._written[index][0], dtype=np.int32)
        return ids, np.zeros(len(ids), dtype=np.bool_)

    def classes(self, index: int) -> npt.NDArray[np.int32]:
        return np.array(self._written[index][1], dtype=np.int32)

    def is_truncated(self, index: int) -> bool:
        return index == 1

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        return np.array([len(ids) for ids, _ in self._written], dtype=np.int64)

    @property
    def digests(self) -> npt.NDArray[np.uint64]:
        return np.arange(len(self._written), dtype=np.uint64)


def texts(*labels: list[int]) -> LabeledTexts:
    ids = ([5, 6, 7], [8], [9, 10, 11, 12])
    return LabeledTexts(Texts(list(zip(ids, labels, strict=True))))


def objective(problem: Problem = Problem.SINGLE_LABEL, **fields: Any) -> Classification:
    return Classification(ClassificationSettings(labels=list(LABELS), problem=problem, **fields))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.save_model(tmp_path_factory.mktemp("classification"))


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_one_label_is_torchs_cross_entropy(weights: dict[str, str] | None) -> None:
    given = torch.tensor([0, 1, 2])
    sums = objective(class_weights=weights).compare(LOGITS, nn.functional.one_hot(given, 3).float(), torch.ones(3))
    weight = torch.tensor([3, 1, 0.5]) if weights else None
    expected = nn.functional.cross_entropy(LOGITS, given, weight=weight, reduction="sum")
    assert float(sums.loss) == pytest.approx(float(expected), rel=1e-6)
    assert [float(part) for part in sums.parts] == [1]


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_several_labels_are_torchs_binary_cross_entropy(weights: dict[str, str] | None) -> None:
    given = torch.tensor([[1.0, 0, 1], [0, 0, 0], [1, 1, 1]])
    sums = objective(Problem.MULTI_LABEL, class_weights=weights).compare(LOGITS, given, torch.tensor([1, 1, 0]))
    weight = torch.tensor([3, 1, 0.5]) if weights else None
    each = nn.functional.binary_cross_entropy_with_logits(LOGITS, given, pos_weight=weight, reduction="none")
    assert float(sums.loss) == pytest.approx(float(each[:2].mean(-1).sum()), rel=1e-6)
    assert [float(part) for part in sums.parts] == [1], "the third row counts nowhere"


@pytest.mark.parametrize("problem", [Problem.SINGLE_LABEL, Problem.MULTI_LABEL])
def test_the_loss_is_the_one_that_transformers_computes(base: Path, problem: Problem) -> None:
    model: Any = load_base(base, torch.float32, head=Head(LABELS, problem)).eval()
    ours = objective(problem)
    batch = ours.collate(texts([0], [2], [1]), [0, 1, 2], model.config.pad_token_id)
    assert batch.classes_bc is not None
    labels = batch.classes_bc.argmax(-1) if problem is Problem.SINGLE_LABEL else batch.classes_bc
    with torch.no_grad():
        theirs = model(input_ids=batch.ids_bt, attention_mask=batch.attention_bt, labels=labels).loss
        found = ours.sums(model, batch)
    assert float(found.loss) / ours.weight(texts([0], [2], [1]), [0, 1, 2]) == pytest.approx(float(theirs), rel=1e-5)


def test_a_row_is_a_text_and_counts_by_its_first_place() -> None:
    found = texts([0, 2], [], [1])
    assert (len(found), found.is_truncated(1), len(found[1:])) == (3, True, 2)
    batch = collate_labeled(found, [2, 0, 1], 0, 3)
    assert batch.ids_bt.tolist() == [[9, 10, 11, 12], [5, 6, 7, 0], [8, 0, 0, 0]]
    assert batch.classes_bc is not None
    assert batch.classes_bc.tolist() == [[0, 1, 0], [1, 0, 1], [0, 0, 0]]
    assert batch.targets_bt.any(1).all(), "a text of one token counts like any other"
    assert batch.predicts_n is not None
    assert batch.predicts_n.numel() == 0, "nothing is predicted"


@pytest.mark.parametrize("groups", [[[0], [1], [2]], [[2, 0], [1]]])
def test_sums_do_not_depend_on_grouping(base: Path, groups: list[list[int]]) -> None:
    ours, found = objective(class_weights=WEIGHTS), texts([0], [2], [1])
    model = load_base(base, torch.float32, head=Head(LABELS, Problem.SINGLE_LABEL)).eval()
    with torch.no_grad():
        whole = ours.sums(model, ours.collate(found, [0, 1, 2], 0))
        apart = [ours.sums(model, ours.collate(found, group, 0)) for group in groups]
    assert sum(float(part.loss) for part in apart) == pytest.approx(float(whole.loss), rel=1e-5)


def test_an_empty_batch_adds_nothing(base: Path) -> None:
    ours = objective(Problem.MULTI_LABEL)
    model = load_base(base, torch.float32, head=Head(LABELS, Problem.MULTI_LABEL))
    sums = ours.sums(model, without_targets(ours.collate(texts([0], [], [1]), [0, 2], 0)))
    sums.loss.backward()  # type: ignore[no-untyped-call]
    assert (sums.loss.item(), sums.parts[0].item()) == (0, 0)
    assert all(float(p.grad.abs().max()) == 0 for p in model.parameters() if p.grad is not None)


def test_the_head_is_named_as_transformers_names_it(base: Path) -> None:
    model: Any = load_base(base, torch.float32, head=Head(LABELS, Problem.MULTI_LABEL))
    assert model.config.id2label == dict(enumerate(LABELS))
    assert model.config.label2id == {"a": 0, "b": 1, "c": 2}
    assert model.config.problem_type == "multi_label_classification"
    assert model.score.weight.shape[0] == 3
