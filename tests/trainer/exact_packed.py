"""As exact.py, with packed rows. Run by test_engine_resume_packed.py, once per rank."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.trainer import tiny
from tests.trainer.exact import FULL, LORA, Ranks
from tests.trainer.small import write_jsonl

FSDP = {"parallelism": {"strategy": "FSDP"}}


def data(folder: Path, packing: bool | None) -> dict[str, Any]:
    block: dict[str, Any] = {"train": [{"uri": f"file://{folder / 'tiny' / 'data' / 'train.jsonl'}"}], "maxLength": 128}
    return {"data": block if packing is None else {**block, "packing": packing}}


def write_uneven(place: Path) -> None:
    """Two files whose queues are not equally frequent, with records that say nearly the same."""
    records = [
        {**tiny.record(message, queue), "queue": queue, "words": len(message.split())}
        for message, queue in tiny.messages(3)
    ]
    common = [record for record in records if record["queue"] != "repairs"]
    again = [{**record, "completion": record["completion"] + " please"} for record in common[:20]]
    write_jsonl(place / "common.jsonl", [*common[:70], *again, *common[:5]])
    write_jsonl(place / "rare.jsonl", [record for record in records if record["queue"] == "repairs"][:20])


def chosen(folder: Path, **changes: Any) -> dict[str, Any]:
    """Sources of different weight, without near duplicates, balanced."""
    of = f"file://{folder / 'tiny' / 'data'}"
    sources = [{"uri": f"{of}/common.jsonl", "weight": "0.7"}, {"uri": f"{of}/rare.jsonl", "weight": "1.5"}]
    block = {"dedup": {"near": {"thresholdPercent": 70}}, "balance": {"column": "queue"}, "maxLength": 128}
    return {**LORA, "data": {"train": sources, **block, **changes}}


def main() -> None:
    ranks = Ranks.started()
    folder, rank = ranks.folder, ranks.rank
    lora = {**LORA, **data(folder, packing=None)}
    full = {**FULL, **data(folder, packing=None)}
    unpacked, unsaid = ({**LORA, **data(folder, packing=packing)} for packing in (False, None))
    ranks.phase(2)
    if rank == 0:
        tiny.write_model(folder / "tiny" / "model")
        # About 85 records in some 22 rows: epochs of 3 steps, the last of them short.
        tiny.write_data(folder / "tiny" / "data" / "train.jsonl", 88)
        write_uneven(folder / "tiny" / "data")
    ranks.agreement.barrier()
    ranks.resumed("lora", lora, stop=(4, 1))
    ranks.train("lora-epoch", 1, lora, stop=(3, 0))
    ranks.train("lora-epoch", 2, lora)
    ranks.resumed("full", full, stop=(5, 0))
    ranks.resumed("fsdp", {**full, **FSDP}, stop=(5, 0))
    ranks.train("before-whole", 1, unpacked)
    ranks.train("before", 1, unpacked, stop=(4, 0))
    ranks.train("before", 2, unsaid)
    ranks.resumed("chosen", chosen(folder), stop=(4, 1))
    ordered = chosen(folder, curriculum={"by": "Column", "column": "words", "epochs": 2})
    ranks.resumed("ordered", ordered, stop=(4, 0))
    ranks.train("shrink", 1, lora, stop=(5, 1))
    if ranks.phase(1):
        ranks.train("shrink", 2, lora)
        ranks.train("grow", 1, lora, stop=(5, 0))
    ranks.phase(2)
    ranks.train("grow", 2, lora)
    ranks.finish()


if __name__ == "__main__":
    main()
