"""Losses are TRL's, on the same models and the same batch."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from finetune_api.objective import DPOLoss, DPOSettings, Head
from finetune_api.objective_distill import DistillSettings
from finetune_api.objective_kto import KTOSettings
from finetune_api.objective_reward import RewardSettings
from finetune_trainer.engine.batch import Example
from finetune_trainer.engine.loss import row_log_probs
from finetune_trainer.engine.model import load_base
from finetune_trainer.objectives.distill import Distill
from finetune_trainer.objectives.dpo import DPO, PARTS
from finetune_trainer.objectives.kto import KTO
from finetune_trainer.objectives.kto import PARTS as KTO_PARTS
from finetune_trainer.objectives.pairs import Pairs, collate_pairs
from finetune_trainer.objectives.reward import Reward
from tests.trainer import small
from tests.trainer.test_objectives_pairs import joined
from tests.trainer.test_objectives_ratings import RATED, ratings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.filterwarnings("ignore")]
PAIRS = [
    ([5, 6, 7, 8, 9], 2, [5, 6, 10, 11], 2),
    ([3, 4, 12], 1, [3, 13, 14, 15, 16, 17], 1),
    ([20, 21, 22, 23], 3, [20, 21, 22, 30, 31], 3),
]
"""(chosen ids, prompt tokens, rejected ids, prompt tokens)."""


@pytest.fixture(scope="module")
def trained() -> tuple[Any, Any]:
    """(policy, reference): not equal, or every margin would be 0."""
    reference = small.model(0)
    policy = copy.deepcopy(reference)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
    return policy.eval(), reference.eval()


def trl_batch() -> dict[str, torch.Tensor]:
    rows = [(chosen, at) for chosen, at, _, _ in PAIRS] + [(rejected, at) for _, _, rejected, at in PAIRS]
    width = max(len(ids) for ids, _ in rows)
    batch = {name: torch.zeros(len(rows), width, dtype=torch.int64) for name in ("input_ids", "attention_mask")}
    batch["completion_mask"] = torch.zeros(len(rows), width, dtype=torch.int64)
    for row, (ids, at) in enumerate(rows):
        batch["input_ids"][row, : len(ids)] = torch.tensor(ids)
        batch["attention_mask"][row, : len(ids)] = 1
        batch["completion_mask"][row, at : len(ids)] = 1
    return batch


@pytest.mark.parametrize(
    ("ours", "theirs"), [(DPOLoss.SIGMOID, "sigmoid"), (DPOLoss.HINGE, "hinge"), (DPOLoss.IPO, "ipo")]
)
def test_dpo_equals_trl(trained: tuple[Any, Any], tmp_path: Path, ours: DPOLoss, theirs: str) -> None:
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    policy, reference = trained
    rows = [{"prompt": "a", "chosen": "b", "rejected": "c"}]
    trainer = DPOTrainer(
        model=copy.deepcopy(policy),
        ref_model=copy.deepcopy(reference),
        args=DPOConfig(
            output_dir=str(tmp_path), loss_type=[theirs], beta=0.3, use_cpu=True, report_to=[], bf16=False,
            gradient_checkpointing=False, disable_dropout=True,
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=small.tokenizer(),
    )  # fmt: skip
    trainer.model.eval()
    with torch.no_grad():
        expected = float(trainer.compute_loss(trainer.model, trl_batch()))

    pairs = Pairs(joined(PAIRS))
    objective = DPO(DPOSettings(beta="0.3", loss=ours))
    batch = objective.collate(pairs, range(len(pairs)), 0)
    with torch.no_grad():
        from finetune_trainer.engine.loss import row_log_probs

        known = row_log_probs(reference, batch).reshape(2, -1).T.numpy().astype(np.float32)
        known_pairs = Pairs(joined(PAIRS), known)
        found = objective.sums(policy, objective.collate(known_pairs, range(len(pairs)), 0))
    assert float(found.loss) / len(PAIRS) == pytest.approx(expected, rel=1e-5)
    parts = dict(zip(PARTS, (float(part) / len(PAIRS) for part in found.parts), strict=True))
    assert parts["preferenceAccuracy"] == pytest.approx(trainer._metrics["eval"]["rewards/accuracies"][-1], rel=1e-5)
    assert parts["rewardMargin"] == pytest.approx(trainer._metrics["eval"]["rewards/margins"][-1], rel=1e-4)


def prompted() -> list[Example]:
    rows = [(chosen, at) for chosen, at, _, _ in PAIRS] + [(rejected, at) for _, _, rejected, at in PAIRS]
    return [(np.asarray(ids, dtype=np.int32), np.arange(len(ids)) >= at) for ids, at in rows]


@pytest.mark.parametrize(
    ("settings", "beta"),
    [
        ({"loss": "ForwardKL"}, 0.0),
        ({"loss": "ReverseKL"}, 1.0),
        ({"loss": "JSD"}, 0.5),
        ({"loss": "JSD", "beta": "0.1"}, 0.1),
        ({"loss": "JSD", "beta": "0.8", "temperature": "2"}, 0.8),
        ({"loss": "ForwardKL", "temperature": "0.5"}, 0.0),
    ],
)
def test_distill_equals_trl(trained: tuple[Any, Any], settings: dict[str, str], beta: float) -> None:
    from trl.experimental.gkd import GKDTrainer

    student, teacher = trained
    found = DistillSettings.model_validate({"teacher": {"uri": "s3://team-a/teacher"}, **settings})
    objective = Distill(found, teacher)
    examples = prompted()
    inputs = trl_batch()
    inputs["labels"] = inputs["input_ids"].masked_fill(inputs["completion_mask"] == 0, -100)
    with torch.no_grad():
        sums = objective.sums(student, objective.collate(examples, range(len(examples)), 0))
        if found.temperature == "1":
            trainer = SimpleNamespace(
                teacher_model=teacher, beta=beta, generalized_jsd_loss=GKDTrainer.generalized_jsd_loss
            )
            expected = GKDTrainer.compute_loss(trainer, student, inputs)
        else:  # of which its trainer makes no use
            logits = [m(inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits for m in trained]
            expected = GKDTrainer.generalized_jsd_loss(
                logits[0][:, :-1],
                logits[1][:, :-1],
                inputs["labels"][:, 1:],
                beta=beta,
                temperature=float(found.temperature),
            )
    ours = float(sums.loss) / objective.weight(examples, range(len(examples)))
    assert ours > 1e-4
    assert ours == pytest.approx(float(expected), rel=1e-5)


def padded(rows: list[tuple[list[int], int]], prefix: str = "") -> dict[str, torch.Tensor]:
    """As TRL has rows of (ids, prompt tokens)."""
    width = max(len(ids) for ids, _ in rows)
    names = [f"{prefix}{name}" for name in ("input_ids", "attention_mask", "completion_mask")]
    batch = {name: torch.zeros(len(rows), width, dtype=torch.int64) for name in names}
    for row, (ids, at) in enumerate(rows):
        batch[names[0]][row, : len(ids)] = torch.tensor(ids)
        batch[names[1]][row, : len(ids)] = 1
        batch[names[2]][row, at : len(ids)] = 1
    return batch


@pytest.mark.parametrize("swapped", [False, True])
def test_kto_equals_trl(trained: tuple[Any, Any], tmp_path: Path, swapped: bool) -> None:
    """Swapped, the model has moved the other way: the distance from the base is above 0 one way, cut off the other."""
    from datasets import Dataset
    from trl import KTOConfig, KTOTrainer

    policy, reference = reversed(trained) if swapped else trained
    rows = [{"prompt": "a", "completion": "b", "label": True}, {"prompt": "a", "completion": "c", "label": False}]
    trainer = KTOTrainer(
        model=copy.deepcopy(policy),
        ref_model=copy.deepcopy(reference),
        args=KTOConfig(
            output_dir=str(tmp_path), beta=0.3, desirable_weight=1.5, undesirable_weight=0.75, use_cpu=True,
            report_to=[], bf16=False, gradient_checkpointing=False, disable_dropout=True, per_device_train_batch_size=2,
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=small.tokenizer(),
    )  # fmt: skip
    trainer.model.eval()
    found = ratings()
    theirs = padded([(ids, at) for ids, at, _ in RATED])
    lent = [found.mismatched(index)[0].tolist() for index in range(len(RATED))]
    theirs |= padded([(ids, at) for ids, (_, at, _) in zip(lent, RATED, strict=True)], "KL_")
    theirs["label"] = torch.tensor([good for _, _, good in RATED])
    with torch.no_grad():
        expected = float(trainer.compute_loss(trainer.model, theirs))

    objective = KTO(KTOSettings(beta="0.3", desirable_weight="1.5", undesirable_weight="0.75"))
    with torch.no_grad():
        asked = collate_pairs(found, range(len(RATED)), 0)
        known = row_log_probs(reference, asked).reshape(2, -1).T.numpy().astype(np.float32)
        batch = objective.collate(found.knowing(known), range(len(RATED)), 0)
        ahead = objective.ahead(policy, batch) / len(RATED)
        sums = objective.sums(policy, replace(batch, ahead=ahead))
    assert float(sums.loss) / len(RATED) == pytest.approx(expected, abs=1e-5)
    kl = float(dict(zip(KTO_PARTS, sums.parts, strict=True))["kl"]) / len(RATED)
    assert kl == pytest.approx(trainer._metrics["eval"]["kl"][-1], abs=1e-5)
    assert (kl > 0) == (float(ahead) > 0)


@pytest.mark.parametrize("centering", [None, "0.01"])
def test_reward_equals_trl(tmp_path: Path, centering: str | None) -> None:
    from datasets import Dataset
    from trl import RewardConfig, RewardTrainer

    model: Any = load_base(small.save_model(tmp_path / "base"), torch.float32, head=Head())
    trainer = RewardTrainer(
        model=copy.deepcopy(model),
        args=RewardConfig(
            output_dir=str(tmp_path / "out"), use_cpu=True, report_to=[], bf16=False, gradient_checkpointing=False,
            disable_dropout=True, center_rewards_coefficient=float(centering) if centering else None,
        ),
        train_dataset=Dataset.from_list([{"chosen": "a b", "rejected": "a c"}]),
        processing_class=small.tokenizer(),
    )  # fmt: skip
    pairs = Pairs(joined(PAIRS))
    objective = Reward(RewardSettings(margin="0.5", centering=centering))
    batch = objective.collate(pairs, range(len(PAIRS)), model.config.pad_token_id)
    theirs = {"input_ids": batch.ids_bt, "attention_mask": batch.attention_bt, "margin": torch.full((len(PAIRS),), 0.5)}
    trainer.model.eval()
    with torch.no_grad():
        sums = objective.sums(model.eval(), batch)
        expected = float(trainer.compute_loss(trainer.model, theirs))
    assert float(sums.loss) / len(PAIRS) == pytest.approx(expected, abs=1e-5)
    parts = dict(zip(PARTS, (float(part) / len(PAIRS) for part in sums.parts), strict=True))
    assert parts["preferenceAccuracy"] == pytest.approx(trainer._metrics["eval"]["accuracy"][-1], rel=1e-5)
    assert parts["rewardMargin"] == pytest.approx(trainer._metrics["eval"]["margin"][-1], rel=1e-4, abs=1e-6)
