"""From files to split, memory-mapped examples: counts, overflow, determinism, words when nothing is left."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from finetune_api.exitcodes import ExitCode
from finetune_trainer.data.dataset import Examples, Splits, load_splits
from finetune_trainer.data.fetch import fetch_data
from finetune_trainer.data.read import DataError
from finetune_trainer.data.sources import fingerprint, list_files, named_sources
from tests.trainer import small


def load(root: Path, data: dict[str, Any] | None = None) -> Splits:
    config = small.config(root, {"data": data or {}})
    folder = fetch_data(config, root / "scratch", lambda _bytes: None)
    return load_splits(config, folder, small.tokenizer())


def texts(examples: Examples) -> list[str]:
    return [small.tokenizer().decode(ids) for ids, _ in examples]


def pair(prompt: str, completion: str = "ok") -> dict[str, str]:
    return {"prompt": prompt, "completion": completion}


def test_five_percent_are_held_out_when_nothing_is_said(tmp_path: Path) -> None:
    small.write_jsonl(tmp_path / "train.jsonl", small.conversations(300))
    splits = load(tmp_path)
    assert len(splits.train) + len(splits.validation) == 300
    assert 5 <= len(splits.validation) <= 30
    assert not set(texts(splits.train)) & set(texts(splits.validation))
    assert splits.counts.records == 300


def test_duplicates_never_straddle(tmp_path: Path) -> None:
    small.write_jsonl(tmp_path / "train.jsonl", small.conversations(40) * 3)
    splits = load(tmp_path, {"validation": {"percent": 30}})
    assert len(splits.train) + len(splits.validation) == 120
    assert not set(texts(splits.train)) & set(texts(splits.validation))


def test_file_order_does_not_change_who_is_held_out(tmp_path: Path) -> None:
    documents = small.conversations(60)
    small.write_jsonl(tmp_path / "a" / "train.jsonl", documents)
    small.write_jsonl(tmp_path / "b" / "train.jsonl", documents[::-1])
    first, second = load(tmp_path / "a"), load(tmp_path / "b")
    assert sorted(texts(first.validation)) == sorted(texts(second.validation))


def test_two_records_are_one_and_one(tmp_path: Path) -> None:
    small.write_jsonl(tmp_path / "train.jsonl", [pair("a"), pair("b")])
    splits = load(tmp_path)
    assert (len(splits.train), len(splits.validation)) == (1, 1)


def test_zero_percent_holds_nothing_out(tmp_path: Path) -> None:
    small.write_jsonl(tmp_path / "train.jsonl", small.conversations(10))
    assert len(load(tmp_path, {"validation": {"percent": 0}}).validation) == 0


def test_validation_sources_are_held_out_and_their_copies_leave_training(tmp_path: Path) -> None:
    documents = small.conversations(20)
    small.write_jsonl(tmp_path / "train.jsonl", documents[:15])
    small.write_jsonl(tmp_path / "test.jsonl", documents[10:])
    splits = load(tmp_path, {"validation": {"sources": [{"uri": f"file://{tmp_path}/test.jsonl"}]}})
    assert (len(splits.train), len(splits.validation), splits.counts.overlapping) == (10, 10, 5)


def test_a_prefix_reads_every_jsonl_file_sorted_and_formats_may_differ_between_files(tmp_path: Path) -> None:
    small.write_jsonl(tmp_path / "set" / "b.jsonl", [pair("second")])
    small.write_jsonl(tmp_path / "set" / "a.jsonl", [{"instruction": "first", "output": "x"}])
    small.write_jsonl(tmp_path / "set" / "deep" / "c.jsonl", small.conversations(1))
    (tmp_path / "set" / "README.md").write_text("not data")
    splits = load(tmp_path, {"train": [{"uri": f"file://{tmp_path}/set"}], "validation": {"percent": 0}})
    found = texts(splits.train)
    assert len(found) == 3
    assert "### Instruction:\nfirst" in found[0]
    assert found[1] == "secondok<|end|>"


def test_limit_reads_the_first_records_of_a_source(tmp_path: Path) -> None:
    small.write_jsonl(tmp_path / "train.jsonl", [pair(f"p{n}") for n in range(10)])
    uri = f"file://{tmp_path}/train.jsonl"
    splits = load(tmp_path, {"train": [{"uri": uri, "limit": 4}], "validation": {"percent": 0}})
    assert texts(splits.train) == [f"p{n}ok<|end|>" for n in range(4)]


LONG_PROMPT, LONG_ANSWER = pair("very " * 60), pair("q", "word " * 60)


@pytest.mark.parametrize(("policy", "kept", "truncated", "dropped"), [("Truncate", 2, 1, 1), ("Drop", 1, 0, 2)])
def test_overlong_records_are_cut_or_dropped_and_counted(
    tmp_path: Path, policy: str, kept: int, truncated: int, dropped: int
) -> None:
    small.write_jsonl(tmp_path / "train.jsonl", [pair("short"), LONG_PROMPT, LONG_ANSWER])
    splits = load(tmp_path, {"maxLength": 32, "onOverflow": policy, "validation": {"percent": 0}})
    assert (len(splits.train), splits.counts.truncated, splits.counts.dropped) == (kept, truncated, dropped)
    assert max(splits.train.lengths) <= 32
    assert [splits.train.is_truncated(i) for i in range(kept)] == [False, True][:kept]
    assert all(targets[1:].any() for _, targets in splits.train)


def test_overflow_error_names_the_record_and_its_length(tmp_path: Path) -> None:
    small.write_jsonl(tmp_path / "train.jsonl", [pair("short"), LONG_ANSWER])
    with pytest.raises(
        DataError, match=r"train.jsonl line 2: the record has \d+ tokens, data.maxLength is 32"
    ) as caught:
        load(tmp_path, {"maxLength": 32, "onOverflow": "Error"})
    assert caught.value.reason == "RecordTooLong"


def test_nothing_left_is_66_with_the_counts(tmp_path: Path) -> None:
    small.write_jsonl(tmp_path / "train.jsonl", [LONG_PROMPT])
    with pytest.raises(DataError, match="no record is left to train on: 1 read, 0 malformed, 1 dropped") as caught:
        load(tmp_path, {"maxLength": 32})
    assert caught.value.code is ExitCode.DATA_INVALID


def test_a_record_the_template_refuses_counts_as_malformed(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    small.write_jsonl(tmp_path / "train.jsonl", [{"messages": turns}, {"messages": turns[::-1]}])
    config = small.config(tmp_path)
    folder = fetch_data(config, tmp_path / "scratch", lambda _bytes: None)
    tokenizer = small.tokenizer()
    strict = type(tokenizer).from_pretrained(tokenizer.save_pretrained(tmp_path / "tok")[0].rsplit("/", 1)[0])
    strict.chat_template = (
        "{% if messages and messages[0]['role'] != 'user' %}{{ raise_exception('start with user') }}{% endif %}"
        + tokenizer.chat_template
    )
    with pytest.raises(DataError, match=r"train.jsonl line 2: the model's chat template refuses .*start with user"):
        load_splits(config, folder, strict)


def test_a_second_process_maps_what_the_first_one_encoded(tmp_path: Path) -> None:
    small.write_jsonl(tmp_path / "train.jsonl", small.conversations(20))
    first = load(tmp_path)
    encoded = next((tmp_path / "scratch").glob("encoded-*"))
    before = (encoded / "ids.bin").stat().st_mtime_ns
    second = load(tmp_path)
    assert (encoded / "ids.bin").stat().st_mtime_ns == before
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(first.train, second.train, strict=True))
    assert not list((tmp_path / "scratch").glob("encoding-*"))


def test_data_that_changed_since_preflight_is_refused(tmp_path: Path) -> None:
    path = small.write_jsonl(tmp_path / "train.jsonl", small.conversations(3))
    config = small.config(tmp_path)
    seen = fingerprint([(n, list_files(config, n)) for n in named_sources(config)])
    pinned = config.model_copy(update={"data_fingerprint": seen})
    fetch_data(pinned, tmp_path / "scratch", lambda _bytes: None)
    path.write_text(path.read_text().replace("priority", "Priority", 1))
    with pytest.raises(DataError, match="changed since preflight") as caught:
        fetch_data(pinned, tmp_path / "scratch", lambda _bytes: None)
    assert caught.value.reason == "DataChanged"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("train-*.jsonl", ["train-0.jsonl", "train-1.jsonl"]),
        ("*", ["odd[1].jsonl", "test-0.jsonl", "train-0.jsonl", "train-1.jsonl"]),
        ("t*-0.*", ["test-0.jsonl", "train-0.jsonl"]),
        ("odd[1].jsonl", ["odd[1].jsonl"]),
        ("none-*", []),
    ],
)
def test_signs_in_the_last_name_choose_files_beside_each_other(tmp_path: Path, name: str, expected: list[str]) -> None:
    for file in ("train-0.jsonl", "train-1.jsonl", "test-0.jsonl", "deeper/train-2.jsonl", "odd[1].jsonl", "notes.txt"):
        path = tmp_path / "set" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        small.write_jsonl(path, small.conversations(1))
    config = small.config(tmp_path, {"data": {"train": [{"uri": f"file://{tmp_path}/set/{name}"}]}})
    (named,) = named_sources(config)
    assert [file.entry.path for file in list_files(config, named)] == expected


def test_data_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"spec.data.train\[0\]: nothing is stored at file://.*/train.jsonl any more"):
        fetch_data(small.config(tmp_path), tmp_path / "scratch", lambda _bytes: None)
