"""The trainer's own numbers, against transformers computed another way."""

from __future__ import annotations

import pytest
import torch

from finetune_trainer.publish.prompts import CHATS, TEXTS
from finetune_trainer.publish.reference import MAX_TOKENS, NEW_TOKENS, make_reference
from tests.trainer import small

CPU = torch.device("cpu")


def test_every_prompt_has_the_models_own_logprobs() -> None:
    """A padded batch and the loss function instead of one row at a time and log_softmax."""
    model, tokenizer = small.model(), small.tokenizer()
    made = make_reference(model, tokenizer, CPU, pad_id=0)
    assert [p.text for p in made.prompts if p.text is not None] == list(TEXTS)
    assert len(made.prompts) == len(TEXTS) + len(CHATS)
    width = max(len(p.token_ids) for p in made.prompts)
    ids = torch.tensor([p.token_ids + [0] * (width - len(p.token_ids)) for p in made.prompts])
    mask = torch.tensor([[1] * len(p.token_ids) + [0] * (width - len(p.token_ids)) for p in made.prompts])
    with torch.inference_mode():
        logits = model(input_ids=ids, attention_mask=mask).logits
        losses = torch.nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), ids[:, 1:], reduction="none")
    for row, prompt in enumerate(made.prompts):
        assert prompt.logprobs == pytest.approx((-losses[row, : len(prompt.logprobs)]).tolist(), abs=1e-5)


def test_what_it_writes_is_greedy_and_its_logprobs_belong_to_it() -> None:
    model = small.model()
    made = make_reference(model, small.tokenizer(), CPU, pad_id=0)
    for prompt in made.prompts[:3]:
        ids = list(prompt.token_ids)
        for token, logprob in zip(prompt.continuation, prompt.continuation_logprobs, strict=True):
            with torch.inference_mode():
                known = model(input_ids=torch.tensor([ids])).logits[0, -1].log_softmax(-1)
            assert int(known.argmax()) == token
            assert logprob == pytest.approx(float(known[token]), abs=1e-5)
            ids.append(token)


def test_chats_are_made_by_the_template() -> None:
    tokenizer = small.tokenizer()
    made = make_reference(small.model(), tokenizer, CPU, pad_id=0)
    chat = next(p for p in made.prompts if p.messages is not None)
    assert chat.messages == list(CHATS[0])
    text = tokenizer.decode(chat.token_ids)
    assert text == "<|user|>\nWhat is the capital of France?<|end|>\n<|assistant|>\n"


def test_a_model_without_a_template_is_asked_texts_only() -> None:
    import copy

    tokenizer = copy.deepcopy(small.tokenizer())
    tokenizer.chat_template = None
    made = make_reference(small.model(), tokenizer, CPU, pad_id=0)
    assert all(p.messages is None for p in made.prompts)
    tokenizer.chat_template = "{{ raise_exception('only users here') }}"
    assert all(p.messages is None for p in make_reference(small.model(), tokenizer, CPU, pad_id=0).prompts)


def test_prompts_fit_the_models_positions() -> None:
    model = small.model()
    model.config.max_position_embeddings = 24
    made = make_reference(model, small.tokenizer(), CPU, pad_id=0)
    assert max(len(p.token_ids) for p in made.prompts) == 24 - NEW_TOKENS
    whole = make_reference(small.model(), small.tokenizer(), CPU, pad_id=0)
    assert max(len(p.token_ids) for p in whole.prompts) <= MAX_TOKENS
    model.config.max_position_embeddings = NEW_TOKENS + 1
    with pytest.raises(ValueError, match="too few for any prompt"):
        make_reference(model, small.tokenizer(), CPU, pad_id=0)
