"""A run that learned preferences is measured by them, for the base and for what is published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForSequenceClassification

from finetune_api.layout import MANIFEST
from tests.trainer import small
from tests.trainer.finished import finished, run, trained
from tests.trainer.preferences import write_preferences, write_ratings

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]


def test_preferences_are_measured_and_gated(root: Path) -> None:
    gate = [
        {"metric": "preferenceAccuracy", "max": "1"},
        {"metric": "rewardMargin", "relativeTo": "Base", "tolerance": "9"},
    ]
    config = finished(root, {"objective": {"type": "DPO"}, "evaluation": {"gate": gate}})
    write_preferences(root / "train.jsonl", 60)
    report = run(config, root)
    assert report.exit_code == 0, report.message
    assert set(report.metrics) == {"loss", "preferenceAccuracy", "rewardMargin"}
    base = {name: value.base for name, value in report.metrics.items()}
    assert base == {"loss": pytest.approx(0.693147, abs=1e-5), "preferenceAccuracy": 0.5, "rewardMargin": 0}
    margin = report.metrics["rewardMargin"].final
    assert margin != 0
    assert len(report.gate) == 2
    assert all(result.passed for result in report.gate)


def test_raw_text_is_measured_by_its_loss(root: Path) -> None:
    config = finished(root, {"objective": {"type": "Pretrain"}})
    small.write_jsonl(root / "train.jsonl", [{"text": f"Text number {n} says {n * n} things."} for n in range(60)])
    report = run(config, root)
    assert report.exit_code == 0, report.message
    assert set(report.metrics) == {"loss", "perplexity"}


def test_ratings_are_measured_and_gated(root: Path) -> None:
    gate = [
        {"metric": "ratingAccuracy", "max": "1"},
        {"metric": "rewardMargin", "relativeTo": "Base", "tolerance": "9"},
    ]
    source = {"uri": f"file://{root}/train.jsonl", "format": "Preference"}
    config = finished(root, {"objective": {"type": "KTO"}, "data": {"train": [source]}, "evaluation": {"gate": gate}})
    write_ratings(root / "train.jsonl", 60)
    report = run(config, root)
    assert report.exit_code == 0, report.message
    base = {name: value.base for name, value in report.metrics.items()}
    assert base == {"loss": pytest.approx(0.5, abs=1e-6), "ratingAccuracy": 0.5, "rewardMargin": 0}
    assert report.metrics["rewardMargin"].final != 0
    assert all(result.passed for result in report.gate)


@pytest.mark.parametrize("kind", ["GRPO", "RLOO", "PPO"])
def test_rewards_are_measured_and_gated(root: Path, kind: str) -> None:
    gate = [{"metric": "reward", "relativeTo": "Base", "tolerance": "3"}, {"metric": "reward", "max": "3"}]
    rewards = [{"type": "Regex", "pattern": "[aeiou]"}, {"type": "Contains", "weight": "2"}]
    settings = {"rewards": rewards, "maxNewTokens": 4, "generations": 2}
    config = finished(root, {"objective": {"type": kind, kind.lower(): settings}, "evaluation": {"gate": gate}})
    report = run(config, root)
    assert report.exit_code == 0, report.message
    (measured,) = report.metrics.values()
    assert measured.samples == 4
    assert measured.base is not None
    assert 0 <= measured.final <= 3
    assert {result.metric for result in report.gate} == {"reward"}
    assert all(result.passed for result in report.gate)


@pytest.mark.parametrize("method", [{"type": "FullFineTune", "lora": None}, {"type": "LoRA"}])
@pytest.mark.parametrize("merge", [True, False])
def test_what_foresees_rewards_is_not_published(root: Path, method: dict[str, Any], merge: bool) -> None:
    settings = {"rewards": [{"type": "Regex", "pattern": "[aeiou]"}], "maxNewTokens": 4}
    objective = {"type": "PPO", "ppo": settings}
    config = finished(root, {"objective": objective, "method": method, "output": {"merge": merge}})
    report = run(config, root)
    assert report.exit_code == 0, report.message
    folder = Path(config.output_uri.removeprefix("file://"))
    with safe_open(str(next(folder.glob("*.safetensors"))), "pt") as stored:
        names = set(stored.keys())
    assert names
    assert not any("value_head" in name for name in names)
    step = next(Path(config.checkpoints_uri.removeprefix("file://")).glob("step-*"))
    with safe_open(str(step / "trainable.safetensors"), "pt") as stored:
        assert {"value_head.weight", "value_head.bias"} <= set(stored.keys())


@pytest.mark.parametrize("method", [small.LORA, small.FULL])
def test_a_reward_model_is_published_as_transformers_loads_it(root: Path, method: dict[str, Any]) -> None:
    gate = [{"metric": "preferenceAccuracy", "max": "1"}]
    config = finished(root, {"objective": {"type": "Reward"}, "method": method, "evaluation": {"gate": gate}})
    write_preferences(root / "train.jsonl", 60)
    report = run(config, root)
    assert report.exit_code == 0, report.message
    assert {name: value.base for name, value in report.metrics.items()} == dict.fromkeys(
        ("loss", "preferenceAccuracy", "rewardMargin")
    )
    assert report.output is not None
    folder = Path(report.output.uri.removeprefix("file://"))
    assert json.loads((folder / MANIFEST).read_text())["kind"] == "Scorer"
    found = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    ours = trained(config, 0.02)
    rows = [[5, 6, 7], [20, 21, 22]]
    assert found.config.num_labels == 1
    with torch.no_grad():
        scores, expected = (m(input_ids=torch.tensor(rows)).logits for m in (found, ours))
    assert scores.shape == (2, 1)
    assert float(scores[0]) != float(scores[1])
    assert torch.allclose(scores, expected, atol=1e-5)
