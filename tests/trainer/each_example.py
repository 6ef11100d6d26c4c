"""Trains two steps of every example of a job that our trainer runs, in one process so that imports are paid once.

Run by test_examples_train.py as `python each_example.py <folder>` with RANK=0. What an example takes from a
cluster is put in its place: the model is the tiny one, records that it does not bring along are the tiny task's, and
GPUs, node counts and sizes that a CPU cannot hold are left out. All else is trained as it is written.
"""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import torch.distributed as dist
import yaml

from tests.trainer import tiny
from tests.trainer.exact import Ranks
from tests.trainer.exact_objectives import write_judge
from tests.trainer.preferences import write_labeled, write_preferences, write_ratings

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
STEPS = 2
ROWS = 24
RECORDS = {
    "SFT": "records.jsonl",
    "Pretrain": "records.jsonl",
    "Distill": "records.jsonl",
    "DPO": "pairs.jsonl",
    "Reward": "pairs.jsonl",
    "KTO": "ratings.jsonl",
    "Classification": "labeled.jsonl",
    "GRPO": "records.jsonl",
    "RLOO": "records.jsonl",
    "PPO": "records.jsonl",
}
"""What an objective learns from, where an example does not bring it along."""
REWARDED = ("GRPO", "RLOO", "PPO")
"""Objectives whose loss is the reward with the other sign, whatever that is. A few steps of a tiny model may find none: they are seen to
learn in test_objectives_resume.py."""


def jobs() -> dict[str, dict[str, Any]]:
    """The specs of all examples that the built-in trainer runs, by file and the job's name."""
    found = {}
    for path in [*sorted(EXAMPLES.glob("*.yaml")), *sorted((EXAMPLES / "data").glob("*.yaml"))]:
        for document in yaml.safe_load_all(path.read_text()):
            if document and document["kind"] == "FineTuneJob" and "trainer" not in document["spec"]:
                found[f"{path.stem}.{document['metadata']['name']}"] = document["spec"]
    return found


def objective(spec: dict[str, Any]) -> str:
    return str(spec.get("objective", {}).get("type", "SFT"))


def judged(spec: dict[str, Any]) -> bool:
    """Whether a reward is a model's."""
    policy = spec.get("objective", {}).get(objective(spec).lower(), {})
    return any("model" in function for function in policy.get("rewards", ()))


def write_records(folder: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    tiny.write_model(folder / "tiny" / "model")
    write_judge(folder / "tiny")
    tiny.write_data(folder / "tiny" / "data" / "records.jsonl", ROWS)
    tiny.write_data(folder / "tiny" / "data" / "held-out.jsonl", 4, seed=9)
    write_preferences(folder / "tiny" / "data" / "pairs.jsonl", ROWS)
    write_ratings(folder / "tiny" / "data" / "ratings.jsonl", ROWS)
    write_labeled(folder / "tiny" / "data" / "labeled.jsonl", ROWS)
    shutil.copytree(EXAMPLES / "data" / "datasets", folder / "datasets")
    with (folder / "datasets" / "faq.csv").open() as table:
        parquet.write_table(pyarrow.Table.from_pylist(list(csv.DictReader(table))), folder / "datasets" / "faq.parquet")


def stored(folder: Path, source: dict[str, Any], name: str) -> dict[str, Any]:
    brought = source["uri"].removeprefix("pvc://")
    place = folder / brought if brought.startswith("datasets/") else folder / "tiny" / "data" / name
    return {**{k: v for k, v in source.items() if k != "secretRef"}, "uri": f"file://{place}"}


def rewarded(folder: Path, function: dict[str, Any]) -> dict[str, Any]:
    return {**function, "model": {"uri": f"file://{folder / 'tiny' / 'judge'}"}} if "model" in function else function


def made_small(folder: Path, spec: dict[str, Any]) -> dict[str, Any]:
    """What `Ranks.train` lays over its own spec."""
    block, learned = dict(spec["data"]), dict(spec.get("objective", {}))
    block["train"] = [stored(folder, source, RECORDS[objective(spec)]) for source in block["train"]]
    if held_out := block.get("validation", {}).get("sources"):
        block["validation"] = {"sources": [stored(folder, source, "held-out.jsonl") for source in held_out]}
    block["maxLength"] = min(block.get("maxLength", 256), 256)
    if "distill" in learned:
        teacher = {"uri": f"file://{folder / 'tiny' / 'model'}"}
        learned["distill"] = {**learned["distill"], "teacher": teacher}
    if block_name := next((name for name in map(str.lower, REWARDED) if name in learned), None):
        # The tiny model never earns what is asked of a real one, and would learn nothing.
        policy = learned[block_name]
        learned[block_name] = {
            **policy,
            "rewards": [
                *(rewarded(folder, function) for function in policy["rewards"]),
                {"type": "Regex", "pattern": "u"},
            ],
            "maxNewTokens": 6,
        }
    training = {k: v for k, v in spec.get("training", {}).items() if k != "epochs"}
    sizes = {"maxSteps": STEPS, "globalBatchSize": 4, "microBatchSize": 2, "precision": "FP32"}
    changes: dict[str, Any] = {
        "data": block,
        "method": spec["method"],
        "training": {**training, **sizes},
        **{key: spec[key] for key in ("checkpoint", "evaluation") if key in spec},
    }
    if learned:
        changes["objective"] = learned
    if "retention" in spec:
        changes["retention"] = {
            term: {**value, "data": stored(folder, value["data"], "held-out.jsonl")}
            if isinstance(value, dict) and "data" in value
            else value
            for term, value in spec["retention"].items()
        }
    return changes


def main() -> None:
    ranks = Ranks.started()
    folder = ranks.folder
    write_records(folder)
    ranks.phase(1)
    for name, spec in jobs().items():
        if objective(spec) in RECORDS:
            ranks.train(name, 1, made_small(folder, spec))
    (folder / "results.json").write_text(json.dumps(ranks.results))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
