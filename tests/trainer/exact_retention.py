"""As exact.py, with terms against forgetting. Run by test_retention_resume.py, once per rank.

The base learns one task first: to route messages about known words. Then it is trained on messages about new words,
which all go to one new queue, and without retention it soon sends everything there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.trainer import tiny
from tests.trainer.exact import FULL, LORA, Ranks
from tests.trainer.small import write_jsonl

SEEDS = (1, 2, 3)
NEW = ("contract", "lawsuit", "privacy", "clause", "patent", "consent")


def write_tasks(data: Path) -> None:
    known = [tiny.record(message, queue) for message, queue in tiny.messages(1)]
    write_jsonl(data / "first.jsonl", known[:240])
    write_jsonl(data / "kept.jsonl", known[240:280])
    write_jsonl(data / "held-out.jsonl", known[280:320])
    texts = [f"{opening} {middle.format(word)}" for opening in tiny.OPENINGS for middle in tiny.MIDDLES for word in NEW]
    write_jsonl(data / "second.jsonl", [tiny.record(text, "legal") for text in texts[::4]])


def data(folder: Path, name: str) -> dict[str, Any]:
    """Trained on `name`, and measured on the first task."""
    of = folder / "tiny" / "data"
    held_out = {"sources": [{"uri": f"file://{of}/held-out.jsonl"}]}
    source = {"uri": f"file://{of}/{name}.jsonl"}
    return {"data": {"train": [source], "maxLength": 64, "packing": False, "validation": held_out}}


def learn_first(ranks: Ranks, folder: Path) -> None:
    """The base model of all that follows; on one rank."""
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    training = {"maxSteps": 60, "learningRate": "2e-3", "globalBatchSize": 16, "microBatchSize": 16}
    ranks.train("first", 1, {**FULL, **data(folder, "first"), "training": training})
    base = folder / "tiny" / "model"
    model = AutoModelForCausalLM.from_pretrained(base)
    model.load_state_dict(load_file(Path(ranks.results["first-1"]["folder"]) / "trainable.safetensors"))
    model.save_pretrained(base)


def terms(folder: Path) -> dict[str, dict[str, Any]]:
    """By name, each alone: what method it is for, and the block."""
    kept = {"uri": f"file://{folder}/tiny/data/kept.jsonl"}
    return {
        "l2sp": {**FULL, "retention": {"l2sp": "10"}},
        "kl-full": {**FULL, "retention": {"klToBase": {"weight": "1", "data": kept}}},
        "kl-lora": {**LORA, "retention": {"klToBase": {"weight": "1", "data": kept}}},
        "ewc": {**FULL, "retention": {"ewc": {"lambda": "10000", "samples": 32, "data": kept}}},
        "replay": {**FULL, "retention": {"replay": {"data": kept, "percent": 30}}},
    }


def main() -> None:
    ranks = Ranks.started()
    folder = ranks.folder
    if ranks.phase(1):
        tiny.write_model(folder / "tiny" / "model")
        write_tasks(folder / "tiny" / "data")
        learn_first(ranks, folder)
        second = data(folder, "second")
        for seed in SEEDS:
            steps = {"maxSteps": 24, "learningRate": "1e-3", "globalBatchSize": 16, "microBatchSize": 16, "seed": seed}
            for name, changes in {"none-full": FULL, "none-lora": LORA, **terms(folder)}.items():
                rate = {"learningRate": "5e-3"} if changes["method"]["type"] == "LoRA" else {}
                ranks.train(f"{name}-{seed}", 1, {**changes, **second, "training": {**steps, **rate}})
    ranks.phase(2)
    ranks.agreement.barrier()
    for name, changes in together(folder).items():
        run = {**changes, **data(folder, "second")}
        ranks.resumed(name, run, stop=(4, 1))
        ranks.train(f"{name}-shrink", 1, run, stop=(5, 0))
    if ranks.phase(1):
        for name, changes in together(folder).items():
            ranks.train(f"{name}-shrink", 2, {**changes, **data(folder, "second")})
    ranks.finish()


def together(folder: Path) -> dict[str, dict[str, Any]]:
    """All terms that go with a method at once."""
    found: dict[str, dict[str, Any]] = {}
    for changes in terms(folder).values():
        name = "full" if changes["method"]["type"] == "FullFineTune" else "lora"
        block = found.setdefault(name, {**changes, "retention": {}})
        block["retention"] = {**block["retention"], **changes["retention"]}
    return found


if __name__ == "__main__":
    main()
