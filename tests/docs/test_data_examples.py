"""Every example of docs/guides/data.md is read as a job would read it: preflight, encoding, the report."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from finetune_api.finetunejob import FineTuneJobSpec
from finetune_cli import rules
from finetune_trainer.data import data_report
from finetune_trainer.data.dataset import load_splits
from finetune_trainer.data.fetch import fetch_data
from finetune_trainer.preflight.consistency import training_rows
from finetune_trainer.preflight.dataset import list_sources, read_sample
from tests.docs.manifests import EXAMPLES
from tests.trainer import small

FOLDER = EXAMPLES / "data"
MANIFESTS = sorted(FOLDER.glob("*.yaml"))
LEARNED = {
    "data-alpaca": ["shipping<|end|>", "billing<|end|>"],
    "data-chat": ["Please write to billing.<|end|>"],
    "data-columns": ["Please write to billing.<|end|>"],
    "data-curriculum": ["Please write to billing.<|end|>"],
    "data-template": ["Please write to billing.<|end|>"],
    "data-text": ["Chapter "],
}


def job(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(path.read_text())
    return document


@pytest.fixture
def claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The volume claim `datasets`, with the one file that is not text made here."""
    import pyarrow
    from pyarrow import parquet

    shutil.copytree(FOLDER / "datasets", tmp_path / "volumes" / "datasets")
    with (FOLDER / "datasets" / "faq.csv").open() as table:
        rows = pyarrow.Table.from_pylist(list(csv.DictReader(table)))
    parquet.write_table(rows, tmp_path / "volumes" / "datasets" / "faq.parquet")
    monkeypatch.setenv("FINETUNE_PVC_DIR", str(tmp_path / "volumes"))
    return tmp_path


def test_there_is_one_for_every_way_to_bring_data() -> None:
    assert {job(path)["metadata"]["name"] for path in MANIFESTS} == set(LEARNED)


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda p: p.stem)
def test_keeps_the_rules_of_the_api_server(path: Path) -> None:
    FineTuneJobSpec.model_validate(job(path)["spec"])
    schema = rules.schema("FineTuneJob")
    assert not list(rules.broken(schema, rules.defaulted(schema, job(path))))


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda p: p.stem)
def test_is_read_and_encoded(path: Path, claim: Path) -> None:
    document = job(path)
    config = small.config(claim, {"data": {"maxLength": 2048} | document["spec"]["data"]})
    sample = read_sample(config, list_sources(config))
    assert sample.malformed == 0
    folder = fetch_data(config, claim / "scratch", lambda _bytes: None)
    splits = load_splits(config, folder, small.tokenizer())
    if config.spec.data.balance is None and not (config.spec.data.dedup and config.spec.data.dedup.near):
        assert abs(training_rows(config.spec, sample) - len(splits.train)) <= len(splits.train) // 4
    assert splits.counts.near_duplicates == 0
    report = data_report.build(config, splits, None, "not packed", small.tokenizer())
    learned = "".join(p["text"] for s in report["samples"] for p in s["parts"] if p["trained"])
    assert any(words in learned for words in LEARNED[document["metadata"]["name"]]), learned
    assert "think" not in learned
    assert "⟦" in data_report.page(report)
