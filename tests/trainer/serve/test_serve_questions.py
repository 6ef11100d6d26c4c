"""Which part of a record is asked, which is expected, and how many are read."""

from pathlib import Path
from typing import Any

import pytest

from finetune_api.data import DataSource
from finetune_trainer.common.errors import RunError
from finetune_trainer.serve.questions import DEFAULT_LIMIT, Question, read_questions
from tests.trainer import small
from tests.trainer.serve import published


def questions(root: Path, documents: list[Any], **source: Any) -> list[Question]:
    small.write_jsonl(root / "held-out.jsonl", documents)
    data = DataSource.model_validate({"uri": f"file://{root}/held-out.jsonl", **source})
    return read_questions(published.config("file:///model"), "spec.rollout.analysis.quality[0].data", data)


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def test_a_conversation_is_asked_up_to_its_last_answer(tmp_path: Path) -> None:
    turns = [turn("system", "S"), turn("user", "1"), turn("assistant", "one"), turn("user", "2")]
    found = questions(tmp_path, [{"messages": [*turns, turn("assistant", " two\n"), turn("user", "thanks")]}])
    assert found == [Question("", (("system", "S"), ("user", "1"), ("assistant", "one"), ("user", "2")), "two")]


def test_pairs_are_asked_as_they_stand(tmp_path: Path) -> None:
    assert questions(tmp_path, [{"prompt": "2 + 2 =", "completion": " 4\n"}]) == [Question("2 + 2 =", (), "4")]
    alpaca = questions(tmp_path, [{"instruction": "Add", "input": "2 2", "output": "4"}])
    assert alpaca[0].prompt.endswith("### Instruction:\nAdd\n\n### Input:\n2 2\n\n### Response:\n")


def test_a_conversation_that_the_assistant_begins_asks_nothing(tmp_path: Path) -> None:
    good = {"messages": [turn("user", "q"), turn("assistant", "a")]}
    assert len(questions(tmp_path, [{"messages": [turn("assistant", "hello")]}, good])) == 1


def test_as_many_as_publish_samples_unless_a_limit_is_set(tmp_path: Path) -> None:
    pairs = [{"prompt": str(n), "completion": "x"} for n in range(100)]
    assert [q.prompt for q in questions(tmp_path, pairs)] == [str(n) for n in range(DEFAULT_LIMIT)]
    assert len(questions(tmp_path, pairs, limit=3)) == 3
    assert len(questions(tmp_path, pairs, limit=90)) == 90


@pytest.mark.parametrize(
    ("documents", "code", "reason", "words"),
    [
        (["no object"], 66, "InvalidData", "held-out.jsonl line 1: expected a JSON object"),
        ([{"messages": [turn("assistant", "hello")]}], 66, "NoRecords", "no record that can be asked"),
        ([], 66, "NoRecords", "no record that can be asked"),
    ],
)
def test_data_that_cannot_be_asked_is_named(
    tmp_path: Path, documents: list[Any], code: int, reason: str, words: str
) -> None:
    with pytest.raises(RunError) as error:
        questions(tmp_path, documents)
    assert (error.value.code, error.value.reason) == (code, reason)
    assert error.value.message.startswith("spec.rollout.analysis.quality[0].data: ")
    assert words in error.value.message


def test_data_that_is_not_there_is_waited_for(tmp_path: Path) -> None:
    data = DataSource.model_validate({"uri": f"file://{tmp_path}/nothing.jsonl"})
    with pytest.raises(RunError) as error:
        read_questions(published.config("file:///model"), "quality[0].data", data)
    assert (error.value.code, error.value.reason) == (69, "WaitingForDataset")
