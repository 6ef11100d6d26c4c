"""Files of records: the format decided once per file, bad records counted over the job, line 17 named."""

import io
import json

import pytest

from finetune_api.data import DataFormat
from finetune_api.exitcodes import ExitCode
from finetune_trainer.data.read import BadRecords, DataError, Located, read_records

GOOD = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}


def read(documents: list[object], *, allowed: int = 0, data_format: DataFormat = DataFormat.AUTO) -> list[Located]:
    content = b"".join((d if isinstance(d, bytes) else json.dumps(d).encode()) + b"\n" for d in documents)
    bad = BadRecords(allowed)
    return list(
        read_records(
            io.BytesIO(content), name="s3://b/train.jsonl", source="data.train[0]", data_format=data_format, bad=bad
        )
    )


def test_line_17_is_reported_with_file_line_and_reason() -> None:
    bad = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant"}]}
    with pytest.raises(DataError) as caught:
        read([GOOD] * 16 + [bad] + [GOOD])
    assert caught.value.code is ExitCode.DATA_INVALID
    assert caught.value.field == "data.train[0]"
    assert caught.value.message == (
        "data.train[0]: s3://b/train.jsonl line 17: messages[1].content is missing; expected a non-empty string"
    )


def test_a_syntax_error_names_its_column() -> None:
    with pytest.raises(DataError, match=r"line 2: not JSON: .* at column 14"):
        read([GOOD, b'{"messages": oops}'])


def test_bad_records_are_tolerated_up_to_the_limit_and_left_out() -> None:
    assert len(read([GOOD, b"{", GOOD, b"[]", GOOD], allowed=2)) == 3


def test_beyond_the_limit_the_first_ones_are_listed() -> None:
    with pytest.raises(DataError) as caught:
        read([GOOD, b"{", b"[]", b"nope"], allowed=2)
    words = caught.value.message
    assert "more than data.maxBadRecords = 2 malformed records" in words
    assert "line 2:" in words
    assert "line 3:" in words
    assert "The last: s3://b/train.jsonl line 4:" in words


def test_mixed_formats_in_one_file_are_a_mistake() -> None:
    with pytest.raises(DataError, match=r"line 2: looks like Alpaca, but the file began as Messages \(line 1\)"):
        read([GOOD, {"instruction": "a", "output": "b"}])


def test_a_format_named_in_the_spec_is_held_to() -> None:
    with pytest.raises(DataError, match="line 1: prompt is missing"):
        read([GOOD], data_format=DataFormat.PROMPT_COMPLETION)


def test_a_file_of_another_kind_is_named_at_once() -> None:
    with pytest.raises(DataError, match=r"s3://b/train.jsonl is zstd-compressed; decompress it first"):
        read([b"\x28\xb5\x2f\xfd"], allowed=100)


def test_places_name_file_and_line() -> None:
    assert [x.place for x in read([GOOD, b"", GOOD])] == ["s3://b/train.jsonl line 1", "s3://b/train.jsonl line 3"]
