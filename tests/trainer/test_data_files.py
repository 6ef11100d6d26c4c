"""The same records in every kind of file come out the same, also when only the beginning may be read."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
from typing import Any

import pytest

from finetune_api.data import DataFormat, TextUnit
from finetune_artifacts import Entry
from finetune_trainer.data.files import open_rows
from finetune_trainer.data.json_array import read_array
from finetune_trainer.data.lines import Rows
from finetune_trainer.data.sources import of_one_kind

RECORDS = [{"prompt": f'q {n}, "{n}" [x', "completion": "é\n{a} \\" * (n % 3 + 1)} for n in range(300)]


def as_jsonl() -> bytes:
    return b"".join(json.dumps(r).encode() + b"\n" for r in RECORDS)


def as_csv(separator: str = ",") -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=separator)
    writer.writerows([["prompt", "completion"], *([r["prompt"], r["completion"]] for r in RECORDS)])
    return text.getvalue().encode()


def as_parquet() -> bytes:
    import pyarrow
    from pyarrow import parquet

    sink = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(RECORDS), sink, row_group_size=50)
    return sink.getvalue()


KINDS = {
    "train.jsonl": as_jsonl,
    "train.jsonl.gz": lambda: gzip.compress(as_jsonl()),
    "train.json": lambda: json.dumps(RECORDS).encode(),
    "pretty.json": lambda: b"\xef\xbb\xbf" + json.dumps(RECORDS, indent=2, ensure_ascii=False).encode(),
    "train.json.gz": lambda: gzip.compress(json.dumps(RECORDS).encode()),
    "train.csv": as_csv,
    "semicolons.csv": lambda: as_csv(";"),
    "train.tsv": lambda: as_csv("\t"),
    "train.csv.gz": lambda: gzip.compress(as_csv()),
    "train.parquet": as_parquet,
    "anything": as_parquet,
}


def rows(content: bytes, name: str, **options: Any) -> Rows:
    return open_rows(io.BytesIO(content), name, **options)


def documents(found: Rows) -> list[dict[str, Any]]:
    collected = list(found.lines)
    assert [line.problem for line in collected] == [None] * len(collected)
    return [line.document or {} for line in collected]


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_file_gives_the_same_records(name: str) -> None:
    assert documents(rows(KINDS[name](), name)) == RECORDS


@pytest.mark.parametrize("name", KINDS)
def test_the_beginning_of_a_file_gives_the_first_records_whole(name: str) -> None:
    content = KINDS[name]()
    found = documents(rows(content, name, budget=len(content) // 2))
    assert 0 < len(found) < 300
    assert found == RECORDS[: len(found)]


def test_rows_are_numbered_as_people_count() -> None:
    assert [(x.number) for x in rows(b'prompt,completion\na,"b\nc"\nd,e\n', "a.csv").lines] == [2, 4]
    assert rows(as_parquet(), "a.parquet").unit == "row"
    assert rows(b"[{}]", "a.json").unit == "record"


@pytest.mark.parametrize("seed", range(20))
def test_an_array_is_cut_into_records_wherever_its_chunks_end(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(seed)
    monkeypatch.setattr("finetune_trainer.data.json_array._CHUNK", rng.randint(1, 40))
    odd = [{"a": "".join(rng.choices('{}[],"\\\n \u00e9', k=rng.randint(0, 12))), "b": [[{}], 1]} for _ in range(9)]
    content = json.dumps(odd, indent=rng.choice([None, 1]), ensure_ascii=rng.choice([True, False])).encode()
    assert [line.document for line in read_array(io.BytesIO(content + b" \n"))] == odd
    assert list(read_array(io.BytesIO(b"[ ]"))) == []


TEXT = b"one\ntwo\n\n\nthree\n"


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        (None, [(1, "one\ntwo\n\n\nthree")]),
        (TextUnit.DOCUMENT, [(1, "one\ntwo\n\n\nthree")]),
        (TextUnit.PARAGRAPH, [(1, "one\ntwo"), (5, "three")]),
        (TextUnit.LINE, [(1, "one"), (2, "two"), (5, "three")]),
    ],
)
def test_a_text_file_is_one_record_or_many(unit: TextUnit | None, expected: list[tuple[int, str]]) -> None:
    found = rows(TEXT, "book.txt", text_unit=unit)
    assert [(x.number, (x.document or {})["text"]) for x in found.lines] == expected


def test_bytes_decide_before_names() -> None:
    """A text file full of JSON lines was read as JSON lines before there was any other kind, and still is."""
    assert documents(rows(as_jsonl(), "train.txt")) == RECORDS
    assert documents(rows(as_jsonl(), "train.csv")) == RECORDS
    assert documents(rows(as_jsonl(), "train.txt", data_format=DataFormat.TEXT)) == [
        {"text": as_jsonl().decode().strip()}
    ]


@pytest.mark.parametrize(
    ("names", "read"),
    [
        (["a.jsonl", "b.jsonl.gz", "README.md", "x.json", "y.parquet"], ["a.jsonl"]),
        (["data/0.parquet", "dataset_info.json", "README.md"], ["data/0.parquet"]),
        (["a.json", "b.jsonl.gz", "c.csv"], ["a.json", "b.jsonl.gz"]),
        (["c.CSV", "d.tsv", "e.txt"], ["c.CSV", "d.tsv"]),
        (["e.txt", "notes.docx"], ["e.txt"]),
        (["notes.docx"], []),
    ],
)
def test_below_a_prefix_one_kind_is_read(names: list[str], read: list[str]) -> None:
    assert [e.path for e in of_one_kind([Entry(path=n, size=1, etag=None, modified=None) for n in names])] == read
