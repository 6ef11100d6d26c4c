"""A classifier is measured by its accuracy and F1, and published as transformers loads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from finetune_api.layout import MANIFEST
from finetune_trainer.publish.classified import counts, macro_f1
from tests.trainer import small
from tests.trainer.finished import finished, run, trained
from tests.trainer.preferences import LABELS, classification, write_labeled

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


def test_f1_is_the_mean_over_the_labels_that_occur() -> None:
    given = np.eye(4, dtype=np.bool_)[[0, 0, 0, 1, 1]]
    decided = np.eye(4, dtype=np.bool_)[[0, 0, 1, 1, 2]]
    found = counts(decided, given)
    assert [(c.right, c.wrong, c.missed) for c in found] == [(2, 0, 1), (1, 1, 1), (0, 1, 0), (0, 0, 0)]
    assert macro_f1(found) == pytest.approx((4 / 5 + 2 / 4 + 0) / 3)
    assert macro_f1(counts(np.zeros((2, 3), bool), np.zeros((2, 3), bool))) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "problem"), [(small.LORA, "SingleLabel"), (small.FULL, "SingleLabel"), (small.LORA, "MultiLabel")]
)
def test_it_is_published_as_transformers_loads_it(root: Path, method: dict[str, Any], problem: str) -> None:
    gate = [{"metric": "accuracy", "max": "1"}, {"metric": "f1", "max": "1"}, {"metric": "loss", "max": "9"}]
    config = finished(
        root, {"objective": classification(problem=problem), "method": method, "evaluation": {"gate": gate}}
    )
    write_labeled(root / "train.jsonl", 60)
    report = run(config, root)
    assert report.exit_code == 0, report.message
    assert {name: value.base for name, value in report.metrics.items()} == dict.fromkeys(("loss", "accuracy", "f1"))
    assert all(result.passed for result in report.gate)
    assert report.output is not None
    folder = Path(report.output.uri.removeprefix("file://"))
    assert json.loads((folder / MANIFEST).read_text())["kind"] == "Classifier"
    found = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    assert found.config.id2label == dict(enumerate(LABELS))
    ours, rows = trained(config, 0.02), torch.tensor([[5, 6, 7], [20, 21, 22]])
    with torch.no_grad():
        logits, expected = (m(input_ids=rows).logits for m in (found, ours))
    assert logits.shape == (2, len(LABELS))
    assert torch.allclose(logits, expected, atol=1e-5)
    asked = pipeline("text-classification", model=found, tokenizer=AutoTokenizer.from_pretrained(folder))
    assert {answer["label"] for answer in asked("where is the parcel?", top_k=None)} == set(LABELS)
