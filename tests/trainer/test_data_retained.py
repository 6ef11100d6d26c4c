"""Records that are read aside: of every kind of text, in no epoch and no split, and missed in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from finetune_trainer.data.dataset import load_splits
from finetune_trainer.data.fetch import fetch_data
from finetune_trainer.data.read import DataError
from finetune_trainer.data.retained import load_retained
from finetune_trainer.data.sources import KL_TO_BASE
from finetune_trainer.preflight.dataset import list_sources, read_sample
from finetune_trainer.preflight.problems import Problem
from tests.trainer import small
from tests.trainer.test_data_choose import pairs, texts


@pytest.fixture
def root(tmp_path: Path) -> Path:
    small.write_jsonl(tmp_path / "train.jsonl", [{"text": f"a text about {n} and more"} for n in range(40)])
    small.write_jsonl(tmp_path / "kept.jsonl", pairs(["a", "b", "a"]))
    return tmp_path


def config(root: Path, **changes: Any) -> Any:
    kept = {"uri": f"file://{root}/kept.jsonl"}
    return small.config(root, {"retention": {"klToBase": {"weight": "1", "data": kept}}, **changes})


def load(wanted: Any, root: Path) -> Any:
    folder = fetch_data(wanted, root / "scratch", lambda _bytes: None)
    return load_retained(wanted, KL_TO_BASE, folder, small.tokenizer(), lambda _records: None)


@pytest.mark.parametrize("objective", ["SFT", "Pretrain"])
def test_they_are_encoded_for_themselves(root: Path, objective: str) -> None:
    wanted = config(root, objective={"type": objective}, data={"dedup": {}})
    assert [text[0] for text in texts(load(wanted, root))] == ["a", "b", "a"]
    splits = load_splits(wanted, root / "scratch", small.tokenizer())
    assert splits.counts.records == 40
    sample = read_sample(wanted, list_sources(wanted))
    assert (len(sample.train), sample.records) == (40, 43)


def test_what_is_of_no_use_is_said_before_and_while_training(root: Path) -> None:
    small.write_jsonl(root / "kept.jsonl", [])
    wanted = config(root)
    with pytest.raises(Problem, match=r"remove spec\.retention\.klToBase$") as early:
        read_sample(wanted, list_sources(wanted))
    assert early.value.field == "spec.retention.klToBase.data"
    with pytest.raises(DataError, match="holds no record to learn from") as late:
        load(wanted, root)
    assert late.value.field == "spec.retention.klToBase.data"


def test_a_malformed_record_is_found_by_file_and_line(root: Path) -> None:
    small.write_jsonl(root / "kept.jsonl", [*pairs(["a"]), {"prompt": "b"}])
    with pytest.raises(DataError, match=r"spec.retention.klToBase.data: .*kept.jsonl line 2"):
        load(config(root), root)
