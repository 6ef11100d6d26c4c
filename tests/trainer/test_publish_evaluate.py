"""The metrics are what they say, however records are batched and padded."""

from pathlib import Path
from typing import Any

import pytest
import torch

from finetune_trainer.data.dataset import Examples, load_splits
from finetune_trainer.data.fetch import fetch_data
from finetune_trainer.engine.write import stop_ids
from finetune_trainer.publish import evaluate
from tests.trainer import small

CPU = torch.device("cpu")


def quiet(_done: int, _all: int) -> None:
    return


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Examples:
    """Records of very different lengths."""
    root = tmp_path_factory.mktemp("data")
    small.write_jsonl(root / "train.jsonl", small.conversations(8) + small.chatter(12))
    config = small.config(root, {"data": {"validation": {"percent": 0}}})
    fetch_data(config, root / "scratch", lambda _bytes: None)
    return load_splits(config, root / "scratch", small.tokenizer()).train


def pad() -> int:
    return int(small.tokenizer().pad_token_id)


def test_the_loss_is_the_mean_over_target_tokens(records: Examples, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against transformers' own loss, record by record, and whatever the size of a batch."""
    model = small.model()
    total, tokens = 0.0, 0
    for ids, targets in records:
        row = torch.tensor(ids.astype("int64")).unsqueeze(0)
        labels = row.masked_fill(~torch.tensor(targets).unsqueeze(0), -100)
        count = int(targets[1:].sum())
        with torch.inference_mode():
            total += float(model(input_ids=row, labels=labels).loss) * count
        tokens += count
    for size in (64, 8192):
        monkeypatch.setattr(evaluate, "TOKENS_PER_BATCH", size)
        loss, seen = evaluate.held_out_loss(model, records, pad(), CPU, quiet)
        assert seen == tokens
        assert loss == pytest.approx(total / tokens, rel=1e-5)


def test_perplexity_is_finite_whatever_the_loss() -> None:
    assert evaluate.perplexity(0.0) == 1.0
    assert evaluate.perplexity(1e9) < float("inf")


def test_prompts_end_where_the_answer_begins(records: Examples) -> None:
    tokenizer = small.tokenizer()
    wanted = evaluate.prompts(records, tokenizer, 1000)
    assert len(wanted) == len(records)
    for prompt in wanted:
        assert tokenizer.decode(prompt.ids).endswith("<|assistant|>\n")
        assert "<|" not in prompt.target
    assert wanted[0].target.startswith('{"team": ')
    assert len(evaluate.prompts(records, tokenizer, 3)) == 3


def test_the_templates_end_of_turn_stops_the_decoding(records: Examples) -> None:
    assert stop_ids(records, small.tokenizer()) == [small.tokenizer().eos_token_id]


def greedy(model: Any, ids: list[int], count: int) -> list[int]:
    """One prompt at a time, no padding, no cache."""
    row = list(ids)
    for _ in range(count):
        with torch.inference_mode():
            row.append(int(model(input_ids=torch.tensor([row])).logits[0, -1].argmax()))
    return row[len(ids) :]


def test_batched_decoding_equals_decoding_one_by_one(records: Examples, monkeypatch: pytest.MonkeyPatch) -> None:
    """The expected texts are the model's own answers to half of the prompts: the share must be exactly that."""
    model, tokenizer = small.model(), small.tokenizer()
    wanted = evaluate.prompts(records, tokenizer, 12)
    stops = stop_ids(records, tokenizer)
    own = []
    for index, prompt in enumerate(wanted):
        written = greedy(model, prompt.ids, 6)
        cut = next((i for i, token in enumerate(written) if token in stops), len(written))
        text = tokenizer.decode(written[:cut], skip_special_tokens=True).strip()
        own.append(evaluate.Prompt(prompt.ids, text if index % 2 else text + "!"))
    for size in (5, 32):
        monkeypatch.setattr(evaluate, "PROMPTS_PER_BATCH", size)
        share = evaluate.exact_match(
            model, own, tokenizer, stops=stops, max_new_tokens=6, pad_id=pad(), device=CPU, progress=quiet
        )
        assert share == 0.5


def test_truncated_records_are_no_prompts(tmp_path: Path) -> None:
    small.write_jsonl(
        tmp_path / "train.jsonl", [{"prompt": "a", "completion": "word " * 50}, {"prompt": "b", "completion": "c"}]
    )
    config = small.config(tmp_path, {"data": {"validation": {"percent": 0}, "maxLength": 16}})
    fetch_data(config, tmp_path / "scratch", lambda _bytes: None)
    train = load_splits(config, tmp_path / "scratch", small.tokenizer()).train
    assert len(train) == 2
    assert [p.target for p in evaluate.prompts(train, small.tokenizer(), 10)] == ["c"]
