"""A run that learned from a teacher is measured by how far it still is from it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from finetune_api.layout import MANIFEST
from tests.trainer.finished import RUN_KEY, finished, run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]


def test_the_divergence_is_measured_gated_and_published(root: Path) -> None:
    """The base is its own teacher here: what training changed is how far the final model is from it."""
    objective = {"type": "Distill", "distill": {"teacher": {"uri": f"file://{root}/base"}, "loss": "JSD"}}
    gate = [{"metric": "divergence", "max": "0.6931"}, {"metric": "divergence", "relativeTo": "Base", "tolerance": "1"}]
    config = finished(root, {"objective": objective, "evaluation": {"gate": gate}})
    report = run(config.model_copy(update={"teacher_revision": None}), root)
    assert report.exit_code == 0, report.message
    assert set(report.metrics) == {"divergence", "loss", "perplexity", "exactMatch"}
    found = report.metrics["divergence"]
    assert found.base == pytest.approx(0, abs=1e-6)
    assert 1e-5 < found.final < 0.6931
    assert [result.passed for result in report.gate] == [True, True]
    lineage = json.loads((root / "runs" / RUN_KEY / "model" / MANIFEST).read_text())["lineage"]
    assert lineage["teacherUri"] == f"file://{root}/base"
