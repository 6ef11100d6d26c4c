"""One process of our trainer over a task, as the launcher would start it; prints one line of JSON.

`python -m bench.trainer.ours FOLDER TASK`
"""

from __future__ import annotations

import json
import os
import sys
from collections import defaultdict
from pathlib import Path
from time import perf_counter
from typing import Any

from bench.trainer.task import Task
from e2e.ports import free_ports
from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.runconfig import RunConfig
from finetune_api.runkey import spec_digest


def run_config(folder: Path, task: Task, run: str, **checkpoint: Any) -> RunConfig:
    """On `folder` as written by `task.write`, with the run directory `folder/<run>`."""
    full = task.method == "FullFineTune"
    spec = FineTuneJobSpec.model_validate(
        {
            "model": {"uri": f"file://{folder}/model"},
            "data": {
                "train": [{"uri": f"file://{folder}/train.jsonl"}],
                "validation": {"percent": 0},
                "maxLength": task.max_length,
                "packing": task.packing,
            },
            "method": {"type": task.method} | ({} if full else {"lora": {"rank": 16, "alpha": 32}}),
            "training": {
                "maxSteps": task.steps,
                "globalBatchSize": task.batch,
                "precision": task.precision,
                "learningRate": task.learning_rate,
                "compile": task.compiled,
            },
            "checkpoint": {"interval": "1h", **checkpoint},
            "resources": {"gpusPerNode": 0},
        }
    )
    return RunConfig.model_validate(
        {
            "namespace": "bench",
            "name": run,
            "uid": "00000000-0000-0000-0000-000000000001",
            "spec": spec,
            "spec_digest": spec_digest(spec),
            "attempt": 1,
            "runs_uri": f"file://{folder}/runs",
            "run_key": run,
            "grace_seconds": 60,
        }
    )


def main() -> None:
    folder, task = Path(sys.argv[1]), Task(**json.loads(sys.argv[2]))
    os.environ |= {
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_ports(1)[0]),
        "GLOO_SOCKET_IFNAME": "lo",
    }
    from finetune_trainer.common.channel import Channel, Heart
    from finetune_trainer.common.places import Places
    from finetune_trainer.data.fetch import fetch_data
    from finetune_trainer.engine import assemble, context
    from finetune_trainer.engine.agree import Agreement
    from finetune_trainer.launcher.board import Board
    from finetune_trainer.launcher.prepare import settle

    config = run_config(folder, task, f"ours-{os.getpid()}")
    places = Places(folder / "scratch" / str(os.getpid()))
    places.channel.mkdir(parents=True)
    places.model.symlink_to(folder / "model")
    fetch_data(config, places.data, lambda _bytes: None)
    channel = Channel(places.channel)
    settle(config, Board(config, 0, channel), places)
    place = context.join(0)
    loop = assemble.assemble(config, places, place, Agreement(), channel, Heart(channel, 0), lambda: False)
    step_once: Any = loop._step_once
    split: dict[str, float] = defaultdict(float)
    times: list[float] = []
    tokens: list[int] = []
    losses: list[float] = []

    def timed(step: int) -> Any:
        began = perf_counter()
        result = step_once(step)
        if step >= task.warm:
            times.append(perf_counter() - began)
            tokens.append(result.tokens)
            for phase, spent in result.split.items():
                split[str(phase)] += spent
        losses.append(result.loss)
        return result

    loop._step_once = timed  # type: ignore[assignment]
    loop.run()
    split["other"] = sum(times) - sum(split.values())
    print(json.dumps({"seconds": sum(times), "tokens": sum(tokens), "first loss": losses[0], "split": split}))


if __name__ == "__main__":
    main()
