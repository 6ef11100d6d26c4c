"""The demo's generator: same seed, same data; held-out tickets are new; the base has never seen an answer."""

import json
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from examples.tiny.corpus import distinct_triage, generic
from finetune_artifacts import open_store
from finetune_trainer.model.inspect import inspect_model

REPO = Path(__file__).resolve().parents[2]


def test_the_same_seed_makes_the_same_distinct_tickets() -> None:
    first, second = list(distinct_triage(7, 200)), list(distinct_triage(7, 200))
    assert first == second
    assert len({m[1]["content"] for m in first}) == 200
    assert list(distinct_triage(8, 200)) != first


def test_no_triage_answer_is_in_the_pretraining_corpus() -> None:
    rng = Random(7)
    answers = {generic(rng)[-1]["content"] for _ in range(5000)}
    assert not answers & {m[-1]["content"] for m in distinct_triage(7, 500)}


@pytest.mark.slow
def test_the_generator_writes_a_model_and_disjoint_data(tmp_path: Path) -> None:
    command = [sys.executable, "examples/tiny/generate.py", "--out", str(tmp_path)]
    done = subprocess.run(
        [*command, "--train", "40", "--test", "8", "--pretrain-steps", "2"], cwd=REPO, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    train, test = (
        {json.loads(line)["messages"][1]["content"] for line in (tmp_path / name).read_text().splitlines()}
        for name in ("train.jsonl", "test.jsonl")
    )
    assert (len(train), len(test)) == (40, 8)
    assert not train & test
    store = open_store(f"file://{tmp_path}/base")
    model = inspect_model(store, list(store.list()))
    assert model.architecture == "LlamaForCausalLM"
    assert model.has_chat_template
