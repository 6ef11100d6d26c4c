"""Masks: exactly what the model should learn to write, whatever the template looks like."""

import copy
from typing import Any

import pytest

from finetune_api.data import DataFormat
from finetune_trainer.data.encode import Encoded, Encoder, NotEncodable
from finetune_trainer.data.read import DataError
from finetune_trainer.data.records import TextPair
from finetune_trainer.data.validate import validate
from tests.trainer import small

CHAT = {
    "messages": [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "first question"},
        {"role": "assistant", "content": "first answer"},
        {"role": "user", "content": "second question"},
        {"role": "assistant", "content": "second answer"},
    ]
}


def with_template(template: str | None) -> Any:
    tokenizer = copy.deepcopy(small.tokenizer())
    tokenizer.chat_template = template
    return tokenizer


def parts(tokenizer: Any, encoded: Encoded) -> list[str]:
    """The trained stretches as text, special tokens included."""
    found, current = [], []
    for token, target in zip([*encoded.ids, None], [*encoded.targets, False], strict=True):
        if target:
            current.append(token)
        elif current:
            found.append(tokenizer.decode(current))
            current = []
    return found


def chat(tokenizer: Any, document: dict[str, Any] = CHAT, data_format: DataFormat = DataFormat.MESSAGES) -> Encoded:
    return Encoder(tokenizer).encode(validate(document, data_format))


def test_every_assistant_turn_and_its_end_is_trained_and_nothing_else() -> None:
    tokenizer = small.tokenizer()
    encoded = chat(tokenizer)
    assert parts(tokenizer, encoded) == ["first answer<|end|>", "second answer<|end|>"]
    assert tokenizer.decode(encoded.ids) == tokenizer.apply_chat_template(CHAT["messages"], tokenize=False)
    assert not encoded.last_turn_only


def test_a_template_with_generation_marks_gives_the_same_mask() -> None:
    marked = with_template(
        "{% for message in messages %}<|{{ message['role'] }}|>\n"
        "{% if message['role'] == 'assistant' %}"
        "{% generation %}{{ message['content'] }}<|end|>{% endgeneration %}{{ '\n' }}"
        "{% else %}{{ message['content'] }}<|end|>\n{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
    )
    assert chat(marked) == chat(small.tokenizer())


def test_a_conversational_completion_trains_on_the_completion_only() -> None:
    tokenizer = small.tokenizer()
    document = {"prompt": CHAT["messages"][:4], "completion": CHAT["messages"][4:]}
    encoded = chat(tokenizer, document, DataFormat.PROMPT_COMPLETION)
    assert parts(tokenizer, encoded) == ["second answer<|end|>"]


def test_what_precedes_a_trained_part_is_the_prompt_as_it_is_served() -> None:
    tokenizer = small.tokenizer()
    encoded = chat(tokenizer, {"messages": CHAT["messages"][:3]})
    prompt = tokenizer.apply_chat_template(CHAT["messages"][:2], add_generation_prompt=True)["input_ids"]
    assert encoded.ids[: encoded.targets.index(True)] == prompt


def test_eos_is_appended_where_the_template_writes_none() -> None:
    tokenizer = with_template(
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}{% if not loop.last %}\n{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}\nassistant: {% endif %}"
    )
    encoded = chat(tokenizer, {"messages": CHAT["messages"][1:3]})
    assert parts(tokenizer, encoded) == ["first answer<|end|>"]


def test_a_template_that_rewrites_earlier_turns_trains_the_last_one_and_says_so() -> None:
    tokenizer = with_template(
        "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}"
        "{% if m['role'] == 'assistant' and loop.last %} (kept){% endif %}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    encoded = chat(tokenizer)
    assert parts(tokenizer, encoded) == ["second answer (kept)<|end|>"]
    assert encoded.last_turn_only


def test_a_template_whose_prompt_changes_with_the_answer_is_refused_in_words() -> None:
    tokenizer = with_template(
        "{{ messages|length }}{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}{% endfor %}"
    )
    with pytest.raises(NotEncodable, match="changes what comes before the assistant's turn"):
        chat(tokenizer)


def test_a_template_that_refuses_a_role_says_why() -> None:
    tokenizer = with_template("{{ raise_exception('no system role here') }}")
    with pytest.raises(NotEncodable, match="refuses these messages: no system role here"):
        chat(tokenizer)


def test_messages_without_a_chat_template_are_refused_in_words() -> None:
    with pytest.raises(DataError, match="the model's tokenizer has no chat template") as caught:
        chat(with_template(None))
    assert caught.value.reason == "NoChatTemplate"


def test_a_tokenizer_without_eos_is_refused() -> None:
    tokenizer = copy.deepcopy(small.tokenizer())
    tokenizer.eos_token = None
    with pytest.raises(DataError, match="names no eos_token"):
        Encoder(tokenizer)


@pytest.mark.parametrize(("prompt", "completion"), [("Say hi: ", "hi"), ("x", "yz"), ("The app", " crashes\n")])
def test_a_plain_pair_is_prompt_completion_end(prompt: str, completion: str) -> None:
    tokenizer = small.tokenizer()
    encoded = Encoder(tokenizer).encode(TextPair(prompt, completion))
    assert parts(tokenizer, encoded) == [completion + "<|end|>"]
    assert encoded.ids[: encoded.targets.index(True)] == tokenizer(prompt, add_special_tokens=False)["input_ids"]


def test_characters_are_never_merged_across_the_border() -> None:
    """Jointly ` wrong` would be one token; served, the prompt ends before it."""
    tokenizer = small.tokenizer()
    assert len(tokenizer(" wrong", add_special_tokens=False)["input_ids"]) == 1
    encoded = Encoder(tokenizer).encode(TextPair("a wr", "ong"))
    assert parts(tokenizer, encoded) == ["ong<|end|>"]


def test_what_the_tokenizer_puts_before_a_text_is_kept() -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = copy.deepcopy(small.tokenizer())
    user = tokenizer.convert_tokens_to_ids("<|user|>")
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|user|> $A", special_tokens=[("<|user|>", user)]
    )
    encoded = Encoder(tokenizer).encode(TextPair("a", "b"))
    assert encoded.ids[0] == user
    assert parts(tokenizer, encoded) == ["b<|end|>"]
