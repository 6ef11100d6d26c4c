"""Every method with every other objective than SFT that the CRD takes it with: trained whole, and stopped and resumed.

Run by test_combinations.py as `python combinations.py <folder>` with RANK set; writes results.json, by
`<objective>-<method>`.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from finetune_api.objective import ObjectiveType
from finetune_cli import combinations

Writer = Callable[[Path, int], object]
STEPS, STOPPED_AT, RECORDS = 6, 3, 16
RATES: Mapping[str, str] = {"IA3": "2e-2", "Prompt": "3e-2", "PTuningV2": "3e-2"}
METHODS: Mapping[str, Mapping[str, Any]] = {
    **{name: {"lora": {"rank": 4, "alpha": 8}} for name in ("LoRA", "DoRA")},
    "AdaLoRA": {"adaLora": {"initialRank": 6, "targetRank": 4, "alpha": 32, "interval": 2}},
    "Freeze": {"freeze": {"lastLayers": 1, "lmHead": True}},
    "Prefix": {"prefix": {"virtualTokens": 4, "hiddenSize": 32}},
    "Prompt": {"prompt": {"virtualTokens": 4}},
    "PTuning": {"pTuning": {"virtualTokens": 4, "hiddenSize": 32}},
    "PTuningV2": {"pTuningV2": {"virtualTokens": 4}},
    "Bottleneck": {"bottleneck": {"size": 8}},
}
"""Of a size for the tiny model."""
OBJECTIVES = [name for name in combinations.OBJECTIVES if name != ObjectiveType.SFT]
ALLOWED = [
    (objective, method)
    for objective in OBJECTIVES
    for method in combinations.METHODS
    if not combinations.refusals(combinations.OBJECTIVES[objective], combinations.METHODS[method])
]


def writers() -> dict[str, Writer]:
    """Of the records each objective learns from."""
    from tests.trainer import preferences, tiny

    return {
        ObjectiveType.PRETRAIN: preferences.write_texts,
        ObjectiveType.DPO: preferences.write_manners,
        ObjectiveType.REWARD: preferences.write_manners,
        ObjectiveType.KTO: preferences.write_ratings,
        ObjectiveType.CLASSIFICATION: preferences.write_labeled,
        ObjectiveType.DISTILL: tiny.write_data,
        ObjectiveType.GRPO: tiny.write_data,
        ObjectiveType.RLOO: tiny.write_data,
        ObjectiveType.PPO: tiny.write_data,
    }


def changes(folder: Path, objective: str, method: str) -> dict[str, Any]:
    from tests.trainer.each_example import REWARDED
    from tests.trainer.exact_objectives import policy
    from tests.trainer.preferences import classification

    source = {"uri": f"file://{folder}/tiny/data/{objective}.jsonl"}
    if objective == ObjectiveType.KTO:
        source["format"] = "Preference"
    chosen: dict[str, Any] = {"type": objective}
    if objective == ObjectiveType.CLASSIFICATION:
        chosen = classification()
    if objective in REWARDED:
        chosen = policy(objective, beta="0" if method == "FullFineTune" else "0.1")["objective"]
    if objective == ObjectiveType.DISTILL:
        chosen["distill"] = {"teacher": {"uri": f"file://{folder}/tiny/teacher"}}
    return {
        "method": {"type": method, **METHODS.get(method, {})},
        "objective": chosen,
        "data": {"train": [source], "maxLength": 64, "validation": {"percent": 0}},
        "training": {
            "maxSteps": STEPS,
            "globalBatchSize": RECORDS,
            "microBatchSize": RECORDS,
            "learningRate": RATES.get(method, "1e-2"),
            "scheduler": {"type": "Constant", "warmupPercent": 0},
        },
    }


def main() -> None:
    from tests.trainer import tiny
    from tests.trainer.exact import Ranks

    ranks = Ranks.started()
    folder = ranks.folder
    ranks.phase(1)
    tiny.write_model(folder / "tiny" / "model")
    tiny.write_model(folder / "tiny" / "teacher", seed=0, layers=3)
    known = writers()
    for objective in OBJECTIVES:
        known[objective](folder / "tiny" / "data" / f"{objective}.jsonl", RECORDS)
    for objective, method in ALLOWED:
        wanted, name = changes(folder, objective, method), f"{objective}-{method}".lower()
        try:
            ranks.resumed(name, wanted, stop=(STOPPED_AT, 0))
        except Exception as error:
            ranks.results[f"{name}-error"] = "".join(traceback.format_exception(error))[-4000:]
    ranks.finish()


if __name__ == "__main__":
    main()
