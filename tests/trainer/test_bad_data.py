"""Every kind of broken record and file is answered in words: which file, which line or row, which field, what to do.

Each case is a file as somebody might upload it. What preflight can see, preflight says; the rest is said before the
first step. `maxBadRecords` passes over broken records, and never over a broken file.
"""

from __future__ import annotations

import codecs
import gzip
import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from finetune_api.exitcodes import ExitCode
from finetune_trainer.common.errors import RunError
from finetune_trainer.data.dataset import load_splits
from finetune_trainer.data.fetch import fetch_data
from finetune_trainer.preflight.dataset import list_sources, read_sample
from tests.trainer import small

USER, ANSWER = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
GOOD = {"messages": [USER, ANSWER]}
PAIR = {"prompt": "q", "completion": "a"}
CSV = b"prompt,completion\nq1,a1\n"

HALF = b"""messages
"[{""role"": ""user"", ""content"": ""q""}, {""role"": ""assistant"", ""content"": ""a""}]"
"[{""role"": ""user"", "
"""


def lines(*documents: Any) -> bytes:
    return b"".join((d if isinstance(d, bytes) else json.dumps(d).encode()) + b"\n" for d in documents)


def talk(*turns: tuple[str, Any]) -> dict[str, Any]:
    return {"conversations": [{"from": who, "value": what} for who, what in turns]}


def parquet(columns: dict[str, list[Any]]) -> bytes:
    import pyarrow
    from pyarrow import parquet as pq

    sink = io.BytesIO()
    pq.write_table(pyarrow.table(columns), sink)
    return sink.getvalue()


def zipped(content: bytes) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("train.jsonl", content)
    return sink.getvalue()


@dataclass(frozen=True)
class Broken:
    name: str
    content: bytes | Callable[[], bytes]
    words: tuple[str, ...]
    """Place, field and remedy, as far as the kind of damage has them."""
    file: str = "train.jsonl"
    source: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)


RECORDS = [
    Broken("not JSON", lines(GOOD, b'{"messages": oops}'), ("line 2", "not JSON", "column 14")),
    Broken("a line cut in half", lines(GOOD, b'{"messages": [{"role"'), ("line 2", "not JSON")),
    Broken("not UTF-8", lines(GOOD, b'{"messages": "\xe9"}'), ("line 2", "byte 15", "save the file as UTF-8")),
    Broken("a list around the records", lines(GOOD, [GOOD]), ("line 2", "found an array", "one object per line")),
    Broken("a bare text", lines(GOOD, b'"hello"'), ("line 2", "expected a JSON object")),
    Broken("NaN", lines(GOOD, b'{"prompt": NaN, "completion": "a"}'), ("line 2", "NaN", "write null or a string")),
    Broken("a key twice", lines(GOOD, b'{"prompt": "a", "prompt": "b"}'), ("line 2", "'prompt'", "twice")),
    Broken("unknown keys", lines(GOOD, {"q": "a"}), ("line 2", "'q'", "columns")),
    Broken("two formats in one file", lines(GOOD, PAIR), ("line 2", "PromptCompletion", "in sources of their own")),
    Broken("messages of a wrong type", lines(GOOD, {"messages": "hi"}), ("line 2", "messages is a string", "expected")),
    Broken("no messages", lines(GOOD, {"messages": []}), ("line 2", "messages is an empty list", "at least one")),
    Broken("an unknown role", lines(GOOD, {"messages": [USER, {"role": "bot", "content": "x"}]}),
           ("line 2", "messages[1].role is 'bot'", "expected one of system, user, assistant")),
    Broken("a turn without content", lines(GOOD, {"messages": [USER, {"role": "assistant"}]}),
           ("line 2", "messages[1].content is missing", "expected a non-empty string")),
    Broken("null for an answer", lines(PAIR, {"prompt": "q", "completion": None}),
           ("line 2", "completion is null", "expected a non-empty string")),
    Broken("a missing answer", lines(PAIR, {"prompt": "q"}), ("line 2", "completion is missing", "expected")),
    Broken("an empty answer", lines(PAIR, {"prompt": "q", "completion": " \n"}), ("line 2", "completion is empty")),
    Broken("a number for an answer", lines(PAIR, {"prompt": "q", "completion": 4}),
           ("line 2", "completion is a number", "expected a non-empty string")),
    Broken("no turn to learn", lines(GOOD, {"messages": [USER]}), ("line 2", "no turn of the role 'assistant'")),
    Broken("tool calls", lines(GOOD, {"messages": [USER, ANSWER | {"tool_calls": [{}]}]}),
           ("line 2", "messages[1].tool_calls", "write the call as text")),
    Broken("an instruction without output", lines({"instruction": "a", "output": "b"}, {"instruction": "a"}),
           ("line 2", "output is missing")),
    Broken("a speaker twice in a row", lines(talk(("human", "q"), ("gpt", "a")), talk(("human", "q"), ("human", "r"))),
           ("line 2", "conversations[1]", "join the two")),
    Broken("a late system turn", lines(talk(("human", "q"), ("gpt", "a")), talk(("human", "q"), ("system", "s"))),
           ("line 2", "conversations[1] is a system turn", "expected it first")),
    Broken("an unknown speaker", lines(talk(("human", "q"), ("gpt", "a")), talk(("alice", "q"))),
           ("line 2", "conversations[0].from is 'alice'", "expected human, gpt")),
    Broken("a preference under SFT", lines({"prompt": "q", "chosen": "a", "rejected": "b"}),
           ("line 1", "a preference (chosen and rejected)", "it learns from")),
    Broken("a ragged row", CSV + b"q2,a2,and more\n", ("line 3", "3 cells, the header 2", "in quotes"), "train.csv"),
    Broken("a stray quote", CSV + b'"q2" said he,a2\n', ("line 3", "not CSV", "double them"), "train.csv"),
    Broken("a cell that is not UTF-8", CSV + b"q2,caf\xe9\n", ("line 3", "'completion'", "save the file as UTF-8"),
           "train.csv"),
    Broken("an empty cell", CSV + b"q2,\n", ("line 3", "completion is empty", "expected"), "train.csv"),
    Broken("half a list in a cell", HALF, ("line 3", "messages", "not JSON"),
           "train.csv"),
    Broken("a null cell", lambda: parquet({"prompt": ["q", "r"], "completion": ["a", None]}),
           ("row 2", "completion is null", "expected a non-empty string"), "train.parquet"),
    Broken("NaN for an empty cell", lambda: parquet({"prompt": ["q"], "completion": [float("nan")]}),
           ("row 1", "completion is NaN", "expected a non-empty string"), "train.parquet"),
    Broken("bytes for text", lambda: parquet({"prompt": [b"q"], "completion": ["a"]}),
           ("row 1", "prompt is binary data"), "train.parquet"),
    Broken("broken inside an array", b'[{"prompt": "q", "completion": "a"},\n {"prompt": }]',
           ("record 2", "not JSON", "begins in line 2"), "train.json"),
    Broken("a mapped column that a record lacks", lines({"q": "a", "a": "b"}, {"q": "a"}),
           ("line 2", "a is missing, which columns.completion names"), source={"columns": {"prompt": "q", "completion": "a"}}),
    Broken("a list in a template", lines({"q": ["a"]}), ("line 1", "q is a list", "texts and numbers"),
           source={"template": {"text": "{q}"}}),
    Broken("a text that is not UTF-8", b"good\n\nb\xe4d\n", ("line 3", "not UTF-8", "save the file as UTF-8"), "a.txt",
           source={"textUnit": "Paragraph"}),
]  # fmt: skip

FILES = [
    Broken("0 bytes", b"", ("0 bytes", "no usable record", "correct the URI")),
    Broken("white space only", b"\n\n \n", ("no usable record",)),
    Broken("a truncated gzip", gzip.compress(lines(*[GOOD] * 50))[:-9], ("without its end", "upload it again"),
           "train.jsonl.gz"),
    Broken("a damaged gzip", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03" + b"\xff" * 64, ("damaged gzip", "again"),
           "train.jsonl.gz"),
    Broken("a Parquet file in gzip", lambda: gzip.compress(parquet({"prompt": ["q"], "completion": ["a"]})),
           ("Parquet", "decompress it"), "train.jsonl.gz"),
    Broken("a truncated Parquet file", lambda: parquet({"prompt": ["q"], "completion": ["a"]})[:-20],
           ("not a whole Parquet file", "upload it again"), "train.parquet"),
    Broken("a Parquet file without a column", lambda: parquet({"question": ["q"], "answer": ["a"]}),
           ("no column 'reply'", "columns.completion", "question, answer"), "train.parquet",
           source={"columns": {"prompt": "question", "completion": "reply"}}),
    Broken("a CSV file without a column", b"question,answer\nq,a\n",
           ("no column 'topic'", "template", "question, answer"), "train.csv",
           source={"template": {"text": "{topic}: {question}"}}),
    Broken("a column twice", b"prompt,prompt\na,b\n", ("'prompt' twice", "rename"), "train.csv"),
    Broken("a quote that never closes", CSV + b'"q2,a2\nq3,a3\n', ("line 3", "never closes"), "train.csv"),
    Broken("an array written by half", b'[{"prompt": "q", "completion": "a"}, {"prompt": "q", "comp',
           ("middle of record 2", "write it again"), "train.json"),
    Broken("two arrays", b'[{"prompt": "q", "completion": "a"}]\n[{}]', ("after the array's end", "record 1"),
           "train.json"),
    Broken("UTF-16", codecs.BOM_UTF16_LE + '{"a": 1}'.encode("utf-16-le"), ("UTF-16", "save it as UTF-8")),
    Broken("a zip archive", zipped(lines(GOOD)), ("zip archive", "unpack it")),
    Broken("zstd", b"\x28\xb5\x2f\xfd\x00\x00", ("zstd-compressed", "gzip")),
    Broken("bytes in a text file", b"abc\0def\n", ("not text", "line 1"), "a.txt"),
    Broken("an overlong record", lines(PAIR, PAIR | {"completion": "word " * 99}),
           ("line 2", "data.maxLength is 32", "onOverflow"), data={"maxLength": 32, "onOverflow": "Error"}),
    Broken("nothing but overlong records", lines(PAIR | {"prompt": "word " * 99}),
           ("1 dropped", "data.maxLength is 32"), data={"maxLength": 32}),
]  # fmt: skip


def complaint(root: Path, broken: Broken, **data: Any) -> RunError:
    content = broken.content if isinstance(broken.content, bytes) else broken.content()
    (root / broken.file).write_bytes(content)
    source = {"uri": f"file://{root}/{broken.file}", **broken.source}
    config = small.config(root, {"data": {"train": [source], **broken.data, **data}})
    with pytest.raises(RunError) as caught:
        read_sample(config, list_sources(config))
        load_splits(config, fetch_data(config, root / "scratch", lambda _bytes: None), small.tokenizer())
    return caught.value


def test_there_are_more_than_thirty_kinds() -> None:
    assert len({b.name for b in RECORDS + FILES}) == len(RECORDS + FILES) > 45


@pytest.mark.parametrize("broken", [*RECORDS, *FILES], ids=lambda b: b.name)
def test_is_answered_with_file_place_field_and_remedy(tmp_path: Path, broken: Broken) -> None:
    found = complaint(tmp_path, broken)
    assert found.code is ExitCode.DATA_INVALID
    assert "spec.data.train" in found.message
    if "no record is left" not in found.message:
        assert f"{tmp_path}/{broken.file}" in found.message
    for words in broken.words:
        assert words in found.message, found.message
    assert "Traceback" not in found.message


@pytest.mark.parametrize("broken", [b for b in RECORDS if b.words[0].endswith(("2", "line 3"))], ids=lambda b: b.name)
def test_one_bad_record_is_passed_over_when_that_is_allowed(tmp_path: Path, broken: Broken) -> None:
    content = broken.content if isinstance(broken.content, bytes) else broken.content()
    (tmp_path / broken.file).write_bytes(content)
    source = {"uri": f"file://{tmp_path}/{broken.file}", **broken.source}
    config = small.config(tmp_path, {"data": {"train": [source], "maxBadRecords": 1}})
    sample = read_sample(config, list_sources(config))
    assert len(sample.train) >= 1
    assert sample.malformed == 1


@pytest.mark.parametrize("broken", [b for b in FILES if "data" not in b.words[0]][2:-2], ids=lambda b: b.name)
def test_a_broken_file_is_never_passed_over(tmp_path: Path, broken: Broken) -> None:
    assert broken.words[0] in complaint(tmp_path, broken, maxBadRecords=1000).message


def test_a_directory_without_data_waits_for_it_and_says_what_is_read(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").mkdir()
    (tmp_path / "train.jsonl" / "notes.docx").write_bytes(b"PK")
    found = complaint_of_waiting(tmp_path)
    assert "nothing is stored at" in found.message
    assert "JSON Lines, JSON, CSV, Parquet or text" in found.message


def complaint_of_waiting(root: Path) -> RunError:
    with pytest.raises(RunError) as caught:
        list_sources(small.config(root))
    assert caught.value.code is ExitCode.WAITING
    return caught.value


def test_marks_crlf_and_blank_lines_are_no_damage(tmp_path: Path) -> None:
    body = json.dumps(PAIR | {"prompt": "z"}).encode()
    (tmp_path / "train.jsonl").write_bytes(codecs.BOM_UTF8 + lines(PAIR) + b"\r\n\r\n" + body)
    config = small.config(tmp_path)
    assert read_sample(config, list_sources(config)).records == 2
