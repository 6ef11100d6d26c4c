"""Which records come first: by their length or by a column, the same for every world size and after every resume."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from finetune_api.training import Training
from finetune_trainer.data.curriculum import arrangement
from finetune_trainer.data.dataset import Splits, load_splits
from finetune_trainer.data.fetch import fetch_data
from finetune_trainer.data.read import DataError
from finetune_trainer.engine.order import Order
from finetune_trainer.engine.plan import plan_batches
from finetune_trainer.preflight.dataset import list_sources, read_sample
from tests.trainer import small

LEVELS = (7, 2, 2, 9, 4, 1, 4, 2, 8, 3)
RECORDS = [
    {"prompt": f"p{n} " + "word " * level, "completion": "ok", "level": level} for n, level in enumerate(LEVELS * 3)
]


def load(root: Path, records: list[Any], curriculum: dict[str, Any]) -> tuple[Any, Splits]:
    small.write_jsonl(root / "train.jsonl", records)
    config = small.config(root, {"data": {"curriculum": curriculum, "validation": {"percent": 0}}})
    return config, load_splits(config, fetch_data(config, root / "scratch", lambda _bytes: None), small.tokenizer())


def orders(root: Path, curriculum: dict[str, Any], world: int = 1) -> tuple[Order, Splits]:
    config, splits = load(root, RECORDS, curriculum)
    plan = plan_batches(Training(global_batch_size=4, micro_batch_size=2), len(splits.train), world)
    return Order(plan, 5, arrangement(config.spec.data, splits.train, splits.store)), splits


def epoch(order: Order, number: int) -> list[int]:
    return [int(i) for batch in range(order.plan.steps_per_epoch) for i in order.batch(number, batch)]


def test_short_records_come_first(tmp_path: Path) -> None:
    order, splits = orders(tmp_path, {"by": "Length"})
    lengths = splits.train.lengths[epoch(order, 0)]
    assert (np.diff(lengths) >= 0).all()
    assert lengths[0] < lengths[-1]


def test_a_column_says_what_is_hard(tmp_path: Path) -> None:
    order, splits = orders(tmp_path, {"by": "Column", "column": "level", "order": "Descending"})
    levels = [LEVELS[i % len(LEVELS)] for i in splits.train.rows[epoch(order, 1)]]
    assert levels == sorted(LEVELS * 3, reverse=True)


def test_equal_records_are_shuffled_anew_and_later_epochs_wholly(tmp_path: Path) -> None:
    order, splits = orders(tmp_path, {"by": "Column", "column": "level", "epochs": 2})
    first, second, third = (epoch(order, number) for number in range(3))
    assert sorted(first) == sorted(second) == sorted(third) == list(range(len(splits.train)))
    assert first != second
    shuffled = Order(order.plan, 5)
    assert third == epoch(shuffled, 2)
    assert any(splits.store.places[a] > splits.store.places[b] for a, b in pairwise(splits.train.rows[third]))


@pytest.mark.parametrize("world", [2, 4])
def test_batches_do_not_depend_on_the_world_size(tmp_path: Path, world: int) -> None:
    (alone, _), (together, _) = orders(tmp_path, {"by": "Length"}), orders(tmp_path, {"by": "Length"}, world)
    for batch in range(alone.plan.steps_per_epoch):
        shares = [part.indices for rank in range(world) for part in together.share(1, batch, rank)]
        assert np.array_equal(np.concatenate(shares), alone.batch(1, batch))


@pytest.mark.parametrize(("level", "words"), [({}, "level is missing"), ({"level": "hard"}, "level is a string")])
def test_a_record_without_a_number_is_named_before_a_gpu_is_taken(
    tmp_path: Path, level: dict[str, Any], words: str
) -> None:
    records = [*RECORDS, {"prompt": "p", "completion": "ok", **level}]
    match = f"train.jsonl line 31: {words}, which data.curriculum.column names; expected a number"
    with pytest.raises(DataError, match=match):
        load(tmp_path, records, {"by": "Column", "column": "level"})
    config = small.config(tmp_path, {"data": {"curriculum": {"by": "Column", "column": "level"}}})
    with pytest.raises(DataError, match=match):
        read_sample(config, list_sources(config))


def test_tables_hold_numbers_as_text(tmp_path: Path) -> None:
    records = [record | {"level": str(record["level"])} for record in RECORDS]
    _, splits = load(tmp_path, records, {"by": "Column", "column": "level"})
    assert splits.store.places.tolist() == list(LEVELS * 3)
