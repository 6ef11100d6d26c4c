"""JSON Lines as they are found: what is forgiven, and what is refused with line and column."""

import codecs
import io

import pytest

from finetune_trainer.data.jsonl import read_lines
from finetune_trainer.data.lines import Line, Unreadable


def lines(content: bytes, **options: object) -> list[Line]:
    return list(read_lines(io.BytesIO(content), **options))  # type: ignore[arg-type]


def test_marks_crlf_and_blank_lines_are_forgiven_and_lines_keep_their_numbers() -> None:
    found = lines(codecs.BOM_UTF8 + b'{"a": 1}\r\n\r\n  \n{"a": 2}')
    assert [(x.number, x.document, x.problem) for x in found] == [(1, {"a": 1}, None), (4, {"a": 2}, None)]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b'{"a": 1,}', "not JSON: "),
        (b'{"a": "x" "b": 2}', "at column 11"),
        (b'{"a": "\xff"}', "byte 8 of the line (0xff) is not UTF-8"),
        (b'[{"a": 1}]', "expected a JSON object, found an array"),
        (b'"text"', 'expected a JSON object, found "text"'),
        (b'{"a": 1, "a": 2}', "the key 'a' appears twice"),
        (b'{"a": {"b": 1, "b": 2}}', "the key 'b' appears twice"),
        (b'{"a": NaN}', "the value NaN is not allowed"),
        (b'{"a": ' + b"[" * 100_000, "nested too deeply"),
    ],
)
def test_a_bad_line_has_a_reason_and_does_not_stop_the_reading(line: bytes, words: str) -> None:
    first, second = lines(line + b'\n{"ok": true}\n')
    assert first.number == 1
    assert first.problem is not None
    assert words in first.problem
    assert second.document == {"ok": True}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x1f\x8b\x08rest", "gzip-compressed"),
        (b"PAR1\x00\x00", "Parquet"),
        ('{"a": 1}\n'.encode("utf-16"), "UTF-16"),
    ],
)
def test_another_kind_of_file_is_named(content: bytes, words: str) -> None:
    with pytest.raises(Unreadable, match=words):
        lines(content)


def test_an_endless_line_is_refused_in_bounded_memory_and_the_next_is_read() -> None:
    found = lines(b'{"a": "' + b"x" * 5000 + b'"}\n{"b": 1}\n', max_line_bytes=100)
    assert [x.number for x in found] == [1, 2]
    assert found[0].problem is not None
    assert "longer than" in found[0].problem
    assert found[1].document == {"b": 1}


def test_the_last_line_needs_no_newline_but_a_cut_one_is_left_out() -> None:
    assert [x.number for x in lines(b'{"a": 1}\n{"a": 2}')] == [1, 2]
    assert [x.number for x in lines(b'{"a": 1}\n{"a": ', cut=True)] == [1]
    assert [x.number for x in lines(b'{"a": 1}\n' + b"x" * 500, cut=True, max_line_bytes=100)] == [1]
