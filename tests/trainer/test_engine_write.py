"""What a model writes: the likeliest tokens or drawn ones, and nothing that depends on who is beside whom."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from finetune_trainer.engine.write import Drawn, last_answer, stop_ids, write
from tests.trainer import small

CPU = torch.device("cpu")
PROMPTS = [[5, 6, 7], [8], [9, 10]]


@pytest.fixture(scope="module")
def model() -> Any:
    return small.model(0)


def written(model: Any, prompts: list[list[int]], drawn: Drawn | None = None, **fields: Any) -> list[list[int]]:
    settings: dict[str, Any] = {"stops": [1], "max_new_tokens": 6, "pad_id": 0, "device": CPU, **fields}
    return write(model, prompts, drawn=drawn, **settings)


def test_the_likeliest_token_is_taken(model: Any) -> None:
    ids = list(PROMPTS[0])
    model.eval()
    with torch.no_grad():
        for _ in range(6):
            ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    assert written(model, [PROMPTS[0]], stops=[small.tokenizer().vocab_size + 1]) == [ids[3:]]


def test_what_is_drawn_depends_on_the_rows_own_seed_alone(model: Any) -> None:
    together = written(model, PROMPTS, Drawn([1, 2, 3]))
    apart = [written(model, [prompt], Drawn([seed]))[0] for prompt, seed in zip(PROMPTS, (1, 2, 3), strict=True)]
    assert together == apart
    torch.manual_seed(99)
    assert written(model, PROMPTS, Drawn([1, 2, 3])) == together
    assert written(model, PROMPTS, Drawn([4, 5, 6])) != together


def test_tokens_are_drawn_as_often_as_they_are_likely(model: Any) -> None:
    """1,000 draws of one token at temperature 0.5: within 5 points of the softmax, five standard errors at most."""
    model.eval()
    with torch.no_grad():
        wanted = (model(input_ids=torch.tensor([PROMPTS[0]])).logits[0, -1].float() / 0.5).softmax(-1)
    count = 1000
    first = [
        row[0]
        for start in range(0, count, 250)
        for row in written(model, [PROMPTS[0]] * 250, Drawn(range(start, start + 250), 0.5), max_new_tokens=1)
    ]
    shares = torch.bincount(torch.tensor(first), minlength=len(wanted)) / count
    assert float((shares - wanted).abs().max()) < 5 * (0.25 / count) ** 0.5


def test_an_answer_ends_with_the_token_that_stops_it(model: Any) -> None:
    first = written(model, [PROMPTS[0]], stops=[small.tokenizer().vocab_size + 1])[0]
    assert written(model, PROMPTS[:1], stops=[first[1]])[0] == first[: first.index(first[1]) + 1]


def test_the_model_is_left_as_it_was_and_somebody_is_told(model: Any) -> None:
    beats: list[int] = []
    model.train()
    written(model, PROMPTS, stops=[small.tokenizer().vocab_size + 1], alive=lambda: beats.append(1))
    assert model.training
    assert len(beats) >= 6


def test_the_last_trained_part_is_the_answer() -> None:
    assert last_answer(np.array([False, True, True, False, True, True, False])) == (4, 6)
    assert last_answer(np.array([True, True])) == (0, 2)


def test_what_ends_the_records_ends_an_answer() -> None:
    tokenizer = small.tokenizer()
    rows = [(np.array([5, 6, tokenizer.eos_token_id]), np.array([False, True, True]))]
    assert stop_ids(rows, tokenizer) == [tokenizer.eos_token_id]
