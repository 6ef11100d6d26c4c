"""The report says what became of the records, and shows them as the model sees them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from finetune_api import layout
from finetune_artifacts import open_store
from finetune_trainer.data import data_report
from finetune_trainer.data.dataset import load_splits
from finetune_trainer.data.fetch import fetch_data
from finetune_trainer.data.packed import pack
from finetune_trainer.model.inspect import ModelInfo
from finetune_trainer.preflight.consistency import training_rows, warnings
from finetune_trainer.preflight.dataset import describe_sample, list_sources, read_sample
from tests.trainer import small

RECORDS = [
    *[{"prompt": f"question {n} ", "completion": f"answer {n}"} for n in range(20)],
    {"prompt": "question 1 ", "completion": "answer 1"},
    {"prompt": "mail ", "completion": "to a@b.org"},
    {"prompt": "<b>bold</b> ", "completion": "yes"},
    {"prompt": "very " * 60, "completion": "cut off"},
    {"prompt": "short ", "completion": "word " * 60},
    {"prompt": "no answer"},
]
DATA: dict[str, Any] = {
    "maxLength": 32,
    "maxBadRecords": 1,
    "dedup": {},
    "validation": {"percent": 10},
    "filters": [{"type": "HTML"}, {"type": "PII", "action": "Clean"}],
}


def report(root: Path) -> dict[str, Any]:
    small.write_jsonl(root / "train.jsonl", RECORDS)
    config = small.config(root, {"data": DATA})
    folder = fetch_data(config, root / "scratch", lambda _bytes: None)
    splits = load_splits(config, folder, small.tokenizer())
    packed = pack(splits.train, 32, folder, lambda _records: None)
    return data_report.build(config, splits, packed, "", small.tokenizer())


def test_every_record_is_accounted_for(tmp_path: Path) -> None:
    found = report(tmp_path)
    counts = found["counts"]
    told = {k: counts[k] for k in ("records", "malformed", "filtered", "duplicates", "dropped", "truncated")}
    assert told == {"records": 24, "malformed": 1, "filtered": 1, "duplicates": 1, "dropped": 1, "truncated": 1}
    rows = counts["train"] + counts["validation"]
    assert rows == len(RECORDS) - 1 - 1 - 1 - 1
    assert found["leftOutBy"] == {"HTML": 1}
    assert found["cleanedBy"] == {"PII": 1}
    assert "line 26: completion is missing" in found["malformed"][0]
    (source,) = found["sources"]
    assert (source["train"], source["validation"]) == (counts["train"], counts["validation"])
    assert sum(bar["rows"] for bar in found["tokens"]["histogram"]) == counts["train"]
    assert 0 < found["tokens"]["trained"] < found["tokens"]["training"]
    assert found["packing"]["records"] == counts["train"]


def test_samples_set_apart_what_is_learned(tmp_path: Path) -> None:
    found = report(tmp_path)
    assert len(found["samples"]) == 3
    first = found["samples"][0]["parts"]
    assert [part["trained"] for part in first] == [False, True]
    assert first[0]["text"].startswith("question")
    assert first[1]["text"].startswith("answer")


def test_the_page_says_it_for_people_and_both_are_stored(tmp_path: Path) -> None:
    found = report(tmp_path)
    run = open_store(f"file://{tmp_path}/run")
    data_report.store(run, found)
    assert json.loads(run.get_bytes(layout.DATA_REPORT)) == found
    page = run.get_bytes(layout.DATA_PAGE).decode()
    assert "| read and encoded | 24 |" in page
    assert "| left out by HTML | 1 |" in page
    assert "⟦answer" in page
    assert "██" in page


def test_a_sample_cannot_end_its_own_fence() -> None:
    found = {"row": 0, "tokens": 1, "cut": False, "parts": [{"text": "a ````b````", "trained": False}]}
    empty = {"training": 1, "trained": 0, "shortest": 1, "median": 1, "p95": 1, "longest": 1, "histogram": []}
    keys = "records malformed filtered duplicates near_duplicates overlapping dropped truncated validation train"
    counts = dict.fromkeys(keys.split(), 0) | {"truncatedPercent": 0.0}
    rest: dict[str, Any] = {"leftOutBy": {}, "cleanedBy": {}, "sources": [], "malformed": [], "maxLength": 8}
    page = data_report.page({"counts": counts, "tokens": empty, "samples": [found], **rest})
    assert "`````text\na ````b````\n`````" in page


def test_lengths_fall_into_powers_of_two() -> None:
    bars = data_report.histogram(np.array([1, 2, 3, 4, 5, 9]))
    assert bars == [
        {"upTo": 1, "rows": 1},
        {"upTo": 2, "rows": 1},
        {"upTo": 4, "rows": 2},
        {"upTo": 8, "rows": 1},
        {"upTo": 16, "rows": 1},
    ]


def test_a_report_that_cannot_be_stored_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file where a folder should be")
    data_report.store(open_store(f"file://{tmp_path}/run"), report(tmp_path))


def test_preflight_says_the_short_of_it(tmp_path: Path) -> None:
    documents = [
        *RECORDS[:23],
        {"prompt": "a", "completion": "b", "id": 7},
        {"prompt": "a", "completion": "c", "id": 7},
    ]
    small.write_jsonl(tmp_path / "train.jsonl", documents)
    config = small.config(
        tmp_path, {"data": DATA | {"train": [{"uri": f"file://{tmp_path}/train.jsonl", "weight": "2"}]}}
    )
    sample = read_sample(config, list_sources(config))
    assert describe_sample(sample).startswith("24 valid in ")
    assert describe_sample(sample).endswith(" KiB, 1 duplicates, 1 filtered out")
    (warning,) = [w for w in warnings(config.spec, ANY_MODEL, sample, _plan()) if w.startswith("DuplicateIds")]
    assert f"{tmp_path}/train.jsonl line 25 (7)" in warning
    folder = fetch_data(config, tmp_path / "scratch", lambda _bytes: None)
    assert training_rows(config.spec, sample) == len(load_splits(config, folder, small.tokenizer()).train)


ANY_MODEL = ModelInfo({}, "LlamaForCausalLM", (), has_chat_template=True)


def _plan() -> Any:
    from types import SimpleNamespace

    return SimpleNamespace(total_steps=100, rows=1, global_batch=1)
