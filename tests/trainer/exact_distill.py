"""As exact.py, with a teacher. Run by test_objectives_distill_resume.py, once per rank."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from finetune_trainer.common.places import Places
from finetune_trainer.objectives.teach import teach
from tests.trainer import runs, tiny
from tests.trainer.exact import FULL, LORA, Ranks
from tests.trainer.exact_objectives import FSDP, data


def distill(folder: Path, **fields: Any) -> dict[str, Any]:
    teacher = {"uri": f"file://{folder / 'tiny' / 'teacher'}"}
    return {"objective": {"type": "Distill", "distill": {"teacher": teacher, **fields}}}


def write_answers(folder: Path, changes: dict[str, Any]) -> None:
    document = runs.spec(folder / "tiny" / "model", folder / "tiny" / "data" / "records.jsonl")
    config = runs.config(folder / "store", document | changes)
    teach(config, Places(folder / "teaching"), folder / "tiny" / "answers", 128, lambda _done, _all: None)


def main() -> None:
    ranks = Ranks.started()
    folder, rank = ranks.folder, ranks.rank
    ranks.phase(2)
    if rank == 0:
        tiny.write_model(folder / "tiny" / "model")
        tiny.write_model(folder / "tiny" / "teacher", seed=0, layers=3)
        tiny.write_data(folder / "tiny" / "data" / "records.jsonl", 28)
    ranks.agreement.barrier()
    records = data(folder, "records", packing=False)
    lora = {**LORA, **distill(folder, loss="JSD", weight="0.8", temperature="2"), **records}
    full = {**FULL, **distill(folder), **records}
    ranks.resumed("lora", lora, stop=(4, 1))
    ranks.train("full-whole", 1, full)
    ranks.train("fsdp-whole", 1, {**full, **FSDP})
    ranks.train("packed", 1, {**full, **data(folder, "records", packing=True)})
    if rank == 0:
        write_answers(folder, {**lora, "objective": distill(folder)["objective"]})
    ranks.agreement.barrier()
    answers = {"topK": {"uri": f"file://{folder / 'tiny' / 'answers'}"}}
    written = {**LORA, **records, "objective": {"type": "Distill", "distill": answers}}
    ranks.resumed("written", written, stop=(4, 0))
    ranks.train("shrink", 1, full, stop=(5, 1))
    if ranks.phase(1):
        ranks.train("shrink", 2, full)
    ranks.finish()


if __name__ == "__main__":
    main()
