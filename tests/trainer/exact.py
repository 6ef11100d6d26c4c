"""One rank of two that train, stop and resume in every combination, in one process so that imports are paid once.

Run by test_engine_resume.py, once per rank, as `python exact.py <folder>` with RANK set. Rank 0 writes results.json:
for each run its digests, losses and learning rates.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import torch.distributed as dist

from finetune_api.runconfig import RunConfig
from finetune_trainer.checkpoint import files
from finetune_trainer.checkpoint.digest import trainable_digest
from finetune_trainer.common.channel import Channel, Heart
from finetune_trainer.common.files import write_atomic
from finetune_trainer.common.models import fetch_teacher
from finetune_trainer.common.places import Places
from finetune_trainer.data.fetch import fetch_data
from finetune_trainer.engine import context
from finetune_trainer.engine.agree import Agreement
from finetune_trainer.engine.assemble import assemble
from finetune_trainer.launcher.board import Board
from finetune_trainer.launcher.prepare import settle
from tests.trainer import runs, tiny

STEPS = 10
LORA = {"method": {"type": "LoRA", "lora": {"rank": 4, "alpha": 8, "dropout": "0.1"}}}
FULL = {"method": {"type": "FullFineTune", "lora": None}}
SMOOTH = {"learningRate": "1e-3"}
SMALL_MICRO = {"microBatchSize": 2}
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "Lion": {"layerwiseDecay": "0.8"},
    "Adafactor": {"weightDecay": "0.01"},
    "AdamW8bit": {"beta2": "0.99"},
}
WSD = {"type": "WSD", "wsd": {"decayPercent": 50}}


class Ranks:
    @classmethod
    def started(cls) -> Ranks:
        """As `ranks.run_ranks` starts a script: RANK in the environment, and the folder."""
        os.environ["LOCAL_RANK"] = "0"
        return cls(Path(sys.argv[1]), int(os.environ["RANK"]))

    def __init__(self, folder: Path, rank: int) -> None:
        self.folder, self.rank = folder, rank
        self.results: dict[str, Any] = {}
        self._phases = 0
        self._stores: list[dist.TCPStore] = []

    def phase(self, world_size: int) -> bool:
        """Forms a process group of the first `world_size` ranks; False on ranks that sit this phase out."""
        if dist.is_initialized():
            # DeepSpeed, where it was used, forgets its groups too.
            deepspeed = sys.modules.get("deepspeed.comm")
            (deepspeed if deepspeed and deepspeed.is_initialized() else dist).destroy_process_group()
        self._phases += 1
        if self.rank >= world_size:
            return False
        # As under elastic: the store is there before the ranks are, on a port that nobody else had in between.
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(self._port()), "TORCHELASTIC_USE_AGENT_STORE": "True"}
        os.environ |= {"WORLD_SIZE": str(world_size), **place}
        self.place = context.join(0)
        self.agreement = Agreement()
        context.self_test(self.place)
        return True

    def _port(self) -> int:
        """Of this phase's store, which rank 0 keeps."""
        told = self.folder / f"port-{self._phases}"
        if self.rank == 0:
            self._stores.append(dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False))
            write_atomic(told, str(self._stores[-1].port).encode())
        while not told.exists():
            time.sleep(0.01)
        return int(told.read_text())

    def wanted(self, run: str) -> bool:
        """Whether a test asks for it: SHOWN, where it is set, is a pattern of the runs' whole names."""
        return "SHOWN" not in os.environ or bool(re.fullmatch(os.environ["SHOWN"], run))

    def train(
        self,
        run: str,
        attempt: int,
        changes: dict[str, Any],
        *,
        stop: tuple[int, int] | None = None,
        skip: tuple[int, ...] = (),
    ) -> None:
        """`stop`: (step, rank that hears the signal). `skip`: steps whose update is left out. Nothing when the run is
        not wanted."""
        if not self.wanted(run):
            return
        document = runs.spec(self.folder / "tiny" / "model", self.folder / "tiny" / "data" / "train.jsonl")
        document["training"] |= {"maxSteps": STEPS, **SMALL_MICRO, **SMOOTH, **changes.get("training", {})}
        document |= {key: value for key, value in changes.items() if key != "training"}
        config = runs.config(self.folder / "store", document, attempt=attempt, run_key=run)
        places = Places(self.folder / "scratch" / f"{run}-{attempt}-{self.rank}")
        places.channel.mkdir(parents=True)
        places.model.symlink_to(self.folder / "tiny" / "model")
        fetch_teacher(config, places.teacher, lambda _bytes: None)
        fetch_data(config, places.data, lambda _bytes: None)
        channel = Channel(places.channel)
        if self.rank == 0:
            settle(config, Board(config, 0, channel), places)
        signalled: list[bool] = []
        loop = assemble(
            config, places, self.place, self.agreement, channel, Heart(channel, self.rank), lambda: bool(signalled)
        )
        step_once, judge = loop._step_once, loop._guard.judge

        def judged(step: int, **numbers: float) -> str | None:
            return loop._guard._skip(step, "asked to") if step in skip else judge(step, **numbers)

        loop._guard.judge = judged  # type: ignore[method-assign]

        def counted(step: int) -> Any:
            result = step_once(step)
            if stop and stop[1] == self.rank and step + 1 >= stop[0]:
                signalled.append(True)
            return result

        loop._step_once = counted  # type: ignore[assignment]
        code = loop.run()
        if self.rank == 0:
            self.results[f"{run}-{attempt}"] = self.outcome(config, int(code), places)

    def resumed(self, run: str, wanted: dict[str, Any], *, stop: tuple[int, int]) -> None:
        """`<run>-whole`, undisturbed, and `<run>-middle`, stopped and resumed: see `ranks.assert_resumed`."""
        self.train(f"{run}-whole", 1, wanted)
        self.train(f"{run}-middle", 1, wanted, stop=stop)
        self.train(f"{run}-middle", 2, wanted)

    def finish(self) -> None:
        """Rank 0 writes down what came of all runs, and the group is left."""
        if self.rank == 0:
            (self.folder / "results.json").write_text(json.dumps(self.results))
        if dist.is_initialized():
            dist.destroy_process_group()

    def outcome(self, config: RunConfig, code: int, places: Places) -> dict[str, Any]:
        name, manifest = max(runs.manifests(config).items(), key=lambda item: (item[1].step, item[1].attempt))
        folder = Path(config.checkpoints_uri.removeprefix("file://")) / name
        lines = [json.loads(line) for line in (places.attempt / "metrics.jsonl").read_text().splitlines()]
        return {
            "code": code,
            "step": manifest.step,
            "total": manifest.total_steps,
            "kept": {n: m.eval_loss for n, m in runs.manifests(config).items()},
            "looks": {line["step"]: line["evalLoss"] for line in lines if "evalLoss" in line},
            "early": channel_words(places),
            "tokens": manifest.tokens,
            "digest": manifest.trainable_digest,
            "optimizer": trainable_digest(files.read_optimizer(folder)),
            "folder": str(folder),
            "losses": {line["step"]: line["loss"] for line in lines if "loss" in line},
            "rates": {line["step"]: line["learningRate"] for line in lines if "loss" in line},
            "norms": {line["step"]: line["gradNorm"] for line in lines if "gradNorm" in line},
        }


def channel_words(places: Places) -> str | None:
    words = Channel(places.channel).progress().get("endedEarly")
    return None if words is None else str(words)


def with_optimizer(name: str) -> dict[str, Any]:
    return {**FULL, "training": {"optimizer": {"type": name, **OPTIMIZERS[name]}, "scheduler": WSD}}


def optimizers(ranks: Ranks) -> None:
    for run, wanted in [
        *((name, with_optimizer(name)) for name in OPTIMIZERS),
        ("Lion-FSDP", {**with_optimizer("Lion"), "parallelism": {"strategy": "FSDP"}}),
    ]:
        ranks.resumed(f"{run}", wanted, stop=(4, 0))


NOISY = {"neftuneAlpha": "5", "labelSmoothing": "0.1"}


def noisy(**training: Any) -> dict[str, Any]:
    return {**FULL, "training": {"regularization": NOISY, **training}}


def noise(ranks: Ranks) -> None:
    ranks.resumed("noise", noisy(), stop=(4, 1))
    ranks.train("noise-micro", 1, noisy(microBatchSize=4))
    dropped = noisy(regularization={**NOISY, "dropout": "0.1"})
    ranks.resumed("dropout", dropped, stop=(4, 0))


WATCHED = {
    **LORA,
    "evaluation": {"intervalSteps": 2},
    "checkpoint": {"interval": "1h", "keep": {"best": 1}},
    "training": {"earlyStopping": {"patience": 2, "minDelta": "100"}},
}
"""No loss is lower by so much: over after the looks at steps 2, 4 and 6."""


def early_stops(ranks: Ranks) -> None:
    ranks.train("early-whole", 1, WATCHED)
    ranks.train("early-lives", 1, WATCHED, stop=(3, 0))
    ranks.train("early-lives", 2, WATCHED, stop=(4, 1))
    ranks.train("early-lives", 3, WATCHED, stop=(6, 0))
    ranks.train("early-lives", 4, WATCHED)


def two_ranks(ranks: Ranks) -> None:
    optimizers(ranks)
    early_stops(ranks)
    noise(ranks)
    ranks.resumed("lora2", LORA, stop=(4, 1))
    ranks.train("lora2-epoch", 1, LORA, stop=(3, 0))
    ranks.train("lora2-epoch", 2, LORA, stop=(6, 1))
    ranks.train("lora2-epoch", 3, LORA)
    ranks.resumed("full2", FULL, stop=(4, 0))
    ranks.train("shrink", 1, LORA, stop=(5, 1))


def one_rank(ranks: Ranks) -> None:
    ranks.resumed("lora1", LORA, stop=(4, 0))
    ranks.train("shrink", 2, LORA)
    ranks.train("grow", 1, LORA, stop=(5, 0))


def main() -> None:
    ranks = Ranks.started()
    folder, rank = ranks.folder, ranks.rank
    ranks.phase(2)
    if rank == 0:
        tiny.write_model(folder / "tiny" / "model")
        # 20 records, one or so held out: epochs of 3 steps, the last of them short.
        tiny.write_data(folder / "tiny" / "data" / "train.jsonl", 20)
    ranks.agreement.barrier()
    two_ranks(ranks)
    if ranks.phase(1):
        one_rank(ranks)
    ranks.phase(2)
    ranks.train("grow", 2, LORA)
    ranks.finish()


if __name__ == "__main__":
    main()
