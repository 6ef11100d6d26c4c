"""Every way a record can be wrong is answered in words that name the place."""

import pytest

from finetune_api.data import Data, DataFormat
from finetune_trainer.data.records import Conversation, TextPair
from finetune_trainer.data.refine import Refiner
from finetune_trainer.data.validate import BadRecord, detect, validate

USER = {"role": "user", "content": "hi"}
ASSISTANT = {"role": "assistant", "content": "hello"}
DATA = {"train": [{"uri": "file:///x"}]}


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"messages": []}, DataFormat.MESSAGES),
        ({"instruction": "a", "output": "b"}, DataFormat.ALPACA),
        ({"prompt": "a", "completion": "b"}, DataFormat.PROMPT_COMPLETION),
        ({"completion": "b"}, DataFormat.PROMPT_COMPLETION),
        ({"prompt": "a", "completion": "b", "label": True}, DataFormat.PROMPT_COMPLETION),
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, DataFormat.PREFERENCE),
        ({"rejected": "c"}, DataFormat.PREFERENCE),
        ({"conversations": []}, DataFormat.SHAREGPT),
        ({"prompt": "a"}, DataFormat.PROMPT_COMPLETION),
        ({"text": "a"}, DataFormat.TEXT),
        ({"messages": [], "prompt": "kept as metadata"}, DataFormat.MESSAGES),
    ],
)
def test_detects_the_format(document: dict, expected: DataFormat) -> None:
    assert detect(document) is expected


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"question": "a", "answer": "b"}, "'answer', 'question'"),
        ({}, "none"),
    ],
)
def test_an_unknown_format_names_what_was_found(document: dict, words: str) -> None:
    with pytest.raises(BadRecord, match=words):
        detect(document)


@pytest.mark.parametrize(
    ("data_format", "document", "words"),
    [
        (DataFormat.MESSAGES, {"messages": "hi"}, "messages is a string; expected a list of {role, content}"),
        (DataFormat.MESSAGES, {"message": []}, "messages is missing; expected a list of {role, content}"),
        (DataFormat.MESSAGES, {"messages": []}, "messages is an empty list"),
        (
            DataFormat.MESSAGES,
            {"messages": ["hi"]},
            "messages[0] is a string; expected an object with role and content",
        ),
        (DataFormat.MESSAGES, {"messages": [{"content": "x"}]}, "messages[0].role is missing; expected one of system"),
        (DataFormat.MESSAGES, {"messages": [USER, {"role": "bot", "content": "x"}]}, "messages[1].role is 'bot'"),
        (DataFormat.MESSAGES, {"messages": [USER, {"role": None, "content": "x"}]}, "messages[1].role is null"),
        (
            DataFormat.MESSAGES,
            {"messages": [USER, {"role": "assistant"}]},
            "messages[1].content is missing; expected a non-empty string",
        ),
        (DataFormat.MESSAGES, {"messages": [USER, {"role": "assistant", "content": " \n"}]}, "content is empty"),
        (DataFormat.MESSAGES, {"messages": [USER, {"role": "assistant", "content": 3}]}, "content is a number"),
        (DataFormat.MESSAGES, {"messages": [USER, {"role": "assistant", "content": True}]}, "content is a boolean"),
        (DataFormat.MESSAGES, {"messages": [USER, {"role": "assistant", "content": {}}]}, "content is an object"),
        (
            DataFormat.MESSAGES,
            {"messages": [USER, {"role": "assistant", "content": "", "tool_calls": [{}]}]},
            "messages[1].tool_calls: tool calls are not supported",
        ),
        (DataFormat.MESSAGES, {"messages": [USER]}, "no turn of the role 'assistant'"),
        (
            DataFormat.MESSAGES,
            {"messages": [{**USER, "reasoning_content": "why"}, ASSISTANT]},
            "messages[0].reasoning_content stands beside a turn of the user; only the assistant reasons",
        ),
        (
            DataFormat.MESSAGES,
            {"messages": [USER, {**ASSISTANT, "thinking": "a", "reasoning": "b"}]},
            "messages[1] has reasoning and thinking; keep one",
        ),
        (
            DataFormat.MESSAGES,
            {"messages": [USER, {**ASSISTANT, "content": "<think>a</think>b", "reasoning": "c"}]},
            "messages[1].reasoning stands beside <think> in content; keep one",
        ),
        (DataFormat.MESSAGES, {"messages": [USER, {**ASSISTANT, "thinking": 3}]}, "messages[1].thinking is a number"),
        (DataFormat.ALPACA, {"instruction": "a"}, "output is missing; expected a non-empty string"),
        (DataFormat.ALPACA, {"instruction": "", "output": "b"}, "instruction is empty"),
        (DataFormat.ALPACA, {"instruction": "a", "input": 1, "output": "b"}, "input is a number; expected a string"),
        (DataFormat.PROMPT_COMPLETION, {"prompt": "a"}, "completion is missing"),
        (DataFormat.PROMPT_COMPLETION, {"prompt": "a", "completion": None}, "completion is null"),
        (DataFormat.PROMPT_COMPLETION, {"prompt": [USER], "completion": "b"}, "completion is a string while the other"),
        (DataFormat.PROMPT_COMPLETION, {"prompt": [USER], "completion": [USER]}, "completion has no turn of the role"),
    ],
)
def test_a_bad_record_says_where_and_what(data_format: DataFormat, document: dict, words: str) -> None:
    with pytest.raises(BadRecord) as caught:
        validate(document, data_format)
    assert words in str(caught.value)


def test_messages_train_on_every_assistant_turn() -> None:
    record = validate({"messages": [USER, ASSISTANT, USER, ASSISTANT]}, DataFormat.MESSAGES)
    assert isinstance(record, Conversation)
    assert [t.trained for t in record.turns] == [False, True, False, True]


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning", "thinking"])
def test_reasoning_in_a_key_of_its_own_stands_in_front_of_the_answer(key: str) -> None:
    record = validate({"messages": [{**USER, key: None}, {**ASSISTANT, key: "They greet.\n"}]}, DataFormat.MESSAGES)
    assert isinstance(record, Conversation)
    assert record.turns[1].content == "<think>\nThey greet.\n</think>\n\nhello"
    assert Refiner(Data.model_validate({**DATA, "reasoning": "Strip"})).apply(record) == validate(
        {"messages": [USER, ASSISTANT]}, DataFormat.MESSAGES
    )
    empty = validate({"messages": [USER, {**ASSISTANT, key: ""}]}, DataFormat.MESSAGES)
    assert isinstance(empty, Conversation)
    assert empty.turns[1].content == "hello"


def test_a_conversational_completion_trains_on_the_completion_only() -> None:
    document = {"prompt": [USER, ASSISTANT, USER], "completion": [ASSISTANT]}
    record = validate(document, DataFormat.PROMPT_COMPLETION)
    assert isinstance(record, Conversation)
    assert [t.trained for t in record.turns] == [False, False, False, True]


def test_alpaca_uses_the_well_known_prompt_in_both_variants() -> None:
    with_input = validate({"instruction": "Add", "input": "1 2", "output": "3"}, DataFormat.ALPACA)
    without = validate({"instruction": "Greet", "input": "", "output": "Hi"}, DataFormat.ALPACA)
    assert isinstance(with_input, TextPair)
    assert isinstance(without, TextPair)
    assert "### Instruction:\nAdd\n\n### Input:\n1 2\n\n### Response:\n" in with_input.prompt
    assert with_input.prompt.startswith("Below is an instruction that describes a task, paired with an input")
    assert without.prompt.endswith("### Instruction:\nGreet\n\n### Response:\n")
    assert "### Input" not in without.prompt
    assert without.completion == "Hi"


def test_braces_in_the_users_text_are_text() -> None:
    record = validate({"instruction": "Fill {x}", "input": "{y}", "output": "z"}, DataFormat.ALPACA)
    assert isinstance(record, TextPair)
    assert "Fill {x}" in record.prompt
    assert "{y}" in record.prompt
