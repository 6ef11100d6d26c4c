"""A reward model as judge: its scores are transformers' own, of what objective Reward published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from finetune_api import runconfig as rc
from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.layout import MANIFEST
from finetune_api.objective_policy import GRPOSettings
from finetune_trainer.common.errors import RunError
from finetune_trainer.engine.seeding import seed_micro_batch
from finetune_trainer.objectives.judge import Judge, load_judge
from finetune_trainer.objectives.policy import Policy
from tests.trainer import finished, small
from tests.trainer.preferences import write_preferences

CPU = torch.device("cpu")
PROMPTS = [[5, 6, 7], [9], [12, 13, 14, 15]]
ANSWERS = [[8], [10, 11, 3], [4, 2]]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """What a job with objective Reward left at its output, and the model it was made of."""
    root = tmp_path_factory.mktemp("reward")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(rc.TERMINATION_LOG_ENV, str(root / "termination"))
        patch.setenv(rc.SCRATCH_DIR_ENV, str(root / "scratch"))
        config = finished.finished(root, {"objective": {"type": "Reward"}})
        write_preferences(root / "train.jsonl", 60)
        report = finished.run(config, root)
    assert report.exit_code == 0, report.message
    return Path(config.output_uri.removeprefix("file://")), finished.trained(config, 0.02)


@pytest.mark.slow
def test_scores_are_those_of_the_model_that_was_trained(published: tuple[Path, Any]) -> None:
    folder, trained = published
    judge = load_judge(spec(folder), folder, CPU)
    assert judge is not None
    found = judge.scores(PROMPTS, ANSWERS, CPU)
    with torch.no_grad():
        alone = [
            float(trained(input_ids=torch.tensor([prompt + answer])).logits)
            for prompt, answer in zip(PROMPTS, ANSWERS, strict=True)
        ]
    assert found.tolist() == pytest.approx(alone, abs=1e-5)
    assert len({round(score, 4) for score in alone}) == 3


def test_nobody_judges_where_no_reward_is_a_models(tmp_path: Path) -> None:
    assert load_judge(spec(None), tmp_path, CPU) is None


def test_a_score_that_is_no_number_is_not_learned_from() -> None:
    model = small.model()
    model.forward = lambda **_: type("Said", (), {"logits": torch.full((3, 1), torch.nan)})
    model.config.pad_token_id = 0
    with pytest.raises(RunError, match="the reward model's score of an answer is not a finite number"):
        Judge(model).scores(PROMPTS, ANSWERS, CPU)


@pytest.mark.slow
def test_its_scores_are_rewards_beside_rules(published: tuple[Path, Any]) -> None:
    folder, _ = published
    judge = load_judge(spec(folder), folder, CPU)
    assert judge is not None
    made = Policy(GRPOSettings.model_validate(policy(folder)))
    tokenizer = small.tokenizer()
    ids = np.array([5, 6, 7, 8, tokenizer.eos_token_id], dtype=np.int32)
    examples = [(ids, np.arange(5) >= 3)]
    made.equip(tokenizer, examples, 0, judge)
    model = small.model(0)
    seed_micro_batch(7, 0, 2, 0)
    found = made.sample(model, made.collate(examples, [0], 0), lambda: None)
    assert found.rewards_bf is not None
    rows = [row[mask.bool()].tolist() for row, mask in zip(found.ids_bt, found.attention_bt, strict=True)]
    expected = judge.scores([row[:3] for row in rows], [row[3:] for row in rows], CPU)
    assert found.rewards_bf[:, 1].tolist() == pytest.approx(expected.tolist(), abs=1e-6)
    parts = dict(zip(made.parts, made.sums(model, found).parts, strict=True))
    rules = found.rewards_bf[:, 0].mean()
    assert float(parts["rewardModel"]) == pytest.approx(float(expected.mean()), abs=1e-6)
    assert float(parts["reward"]) == pytest.approx(float(rules + 2 * expected.mean()), abs=1e-5)


@pytest.mark.slow
def test_publishing_measures_by_it(published: tuple[Path, Any], root: Path) -> None:
    settings = policy(published[0])
    settings["rewards"] = settings["rewards"][1:]
    gate = [{"metric": "reward", "relativeTo": "Base", "tolerance": "9"}]
    config = finished.finished(root, {"objective": {"type": "GRPO", "grpo": settings}, "evaluation": {"gate": gate}})
    report = finished.run(config, root)
    assert report.exit_code == 0, report.message
    measured = report.metrics["reward"]
    assert measured.base is not None
    assert measured.base != measured.final
    assert abs(measured.final) < 9
    manifest = json.loads((Path(config.output_uri.removeprefix("file://")) / MANIFEST).read_text())
    assert manifest["lineage"]["teacherUri"] == f"file://{published[0]}"


def policy(folder: Path | None) -> dict[str, Any]:
    rules: list[dict[str, Any]] = [{"type": "Regex", "pattern": "e"}]
    model = {"type": "Model", "weight": "2", "model": {"uri": f"file://{folder}"}}
    return {"rewards": [*rules, model] if folder else rules, "generations": 3, "maxNewTokens": 4}


def spec(folder: Path | None) -> FineTuneJobSpec:
    return small.config(Path("/nowhere"), {"objective": {"type": "GRPO", "grpo": policy(folder)}}).spec
