"""Replayed records: as many as asked for, the same ones every time, never held out and never of the held-out ones."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from finetune_trainer.data import data_report
from finetune_trainer.data.dataset import Splits, load_splits
from finetune_trainer.data.fetch import fetch_data
from finetune_trainer.data.read import DataError
from finetune_trainer.data.split import replay_count
from finetune_trainer.preflight.consistency import check_batches
from finetune_trainer.preflight.dataset import list_sources, read_sample
from finetune_trainer.preflight.problems import Problem
from tests.trainer import small
from tests.trainer.test_data_choose import pairs, texts


def config(root: Path, percent: int, **data: Any) -> Any:
    kept = {"uri": f"file://{root}/kept.jsonl"}
    return small.config(root, {"data": data, "retention": {"replay": {"data": kept, "percent": percent}}})


def load(root: Path, percent: int, **data: Any) -> Splits:
    wanted = config(root, percent, **data)
    return load_splits(wanted, fetch_data(wanted, root / "scratch", lambda _bytes: None), small.tokenizer())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    small.write_jsonl(tmp_path / "train.jsonl", pairs([f"p{n}" for n in range(80)], group="g"))
    small.write_jsonl(tmp_path / "kept.jsonl", pairs([f"k{n}" for n in range(20)]))
    return tmp_path


def kept_of(splits: Splits) -> Counter[str]:
    return Counter(text for text in texts(splits.train) if text.startswith("k"))


@pytest.mark.parametrize("percent", [1, 10, 50, 80])
def test_the_percentage_is_kept(root: Path, percent: int) -> None:
    splits = load(root, percent)
    found, others = kept_of(splits), len(splits.train) - splits.counts.replayed
    assert sum(found.values()) == splits.counts.replayed == replay_count(others, percent)
    assert abs(100 * splits.counts.replayed / len(splits.train) - percent) < 1
    assert len(found) == min(20, splits.counts.replayed)
    assert max(found.values()) - min(found[name] for name in found) <= 1
    assert not any(text.startswith("k") for text in texts(splits.validation))


def test_what_is_held_out_is_what_it_was_without(root: Path) -> None:
    alone = small.config(root)
    without = load_splits(alone, fetch_data(alone, root / "alone", lambda _bytes: None), small.tokenizer())
    assert texts(load(root, 30).validation) == texts(without.validation)


@pytest.mark.parametrize("named", [False, True])
def test_a_held_out_record_is_not_replayed(root: Path, named: bool) -> None:
    small.write_jsonl(root / "kept.jsonl", pairs([f"p{n}" for n in range(80)]))
    small.write_jsonl(root / "held.jsonl", pairs(["p1", "p2"]))
    data = {"validation": {"sources": [{"uri": f"file://{root}/held.jsonl"}]} if named else {"percent": 20}}
    splits = load(root, 50, **data)
    assert len(splits.validation)
    assert splits.counts.replayed
    assert not set(texts(splits.validation)) & set(texts(splits.train))


def test_it_is_the_same_every_time_and_told_in_the_report(root: Path) -> None:
    wanted = config(root, 10, balance={"column": "group"})
    first, again = load(root, 10, balance={"column": "group"}), load(root, 10, balance={"column": "group"})
    assert np.array_equal(first.train.rows, again.train.rows)
    report = data_report.build(wanted, first, None, "", small.tokenizer())
    assert report["sources"][-1]["field"] == "spec.retention.replay.data"
    assert report["sources"][-1]["train"] == first.counts.replayed == 8
    assert "| of these replayed (spec.retention) | 8 |" in data_report.page(report)


def test_nothing_to_replay_is_said_before_and_while_training(root: Path) -> None:
    small.write_jsonl(root / "kept.jsonl", [])
    with pytest.raises(Problem, match="no usable record: write"):
        read_sample(config(root, 10), list_sources(config(root, 10)))
    with pytest.raises(DataError, match="no record to replay"):
        load(root, 10)


def test_preflight_counts_what_training_will(root: Path) -> None:
    wanted = config(root, 30)
    plan = check_batches(wanted, read_sample(wanted, list_sources(wanted)))
    assert plan.rows == len(load(root, 30).train)


def test_other_records_to_replay_are_another_run(root: Path) -> None:
    wanted = config(root, 10).model_copy(update={"data_fingerprint": "sha256:before"})
    with pytest.raises(DataError, match="changed since preflight"):
        fetch_data(wanted, root / "later", lambda _bytes: None)
