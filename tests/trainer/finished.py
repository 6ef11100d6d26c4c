"""A run that has finished training, without the training: base, data, and a committed final checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from finetune_api.method import LoRA, MethodType
from finetune_api.objective import foresees, head_of
from finetune_api.reports import PublishReport
from finetune_api.runconfig import RunConfig
from finetune_trainer.checkpoint.commit import commit
from finetune_trainer.checkpoint.snapshot import Position, Snapshot, trainable_parameters
from finetune_trainer.common.stores import open_checkpoints, open_run
from finetune_trainer.engine import value
from finetune_trainer.engine.model import load_base
from finetune_trainer.methods.lora import add_lora
from finetune_trainer.publish.main import publish
from tests.trainer import small

RUN_KEY = "0123456789abcdef"


def finished(
    root: Path, spec: dict[str, Any] | None = None, *, step: int = 10, dtype: str = "float32", change: float = 0.02
) -> RunConfig:
    """Every trainable parameter is moved by noise of the size `change`."""
    small.save_model(root / "base", dtype=dtype)
    small.write_jsonl(root / "train.jsonl", small.conversations(60))
    quick = {"evaluation": {"samples": {"count": 4, "maxNewTokens": 4}}, "data": {"validation": {"percent": 20}}}
    config = small.config(
        root, small.merged(quick, spec or {}), run_key=RUN_KEY, attempt=1, model_revision=None, data_fingerprint=None
    )
    commit_checkpoint(config, step=step, change=change)
    return config.model_copy(update={"attempt": 0})


def trained(config: RunConfig, change: float) -> Any:
    """The trained model that the checkpoint is of, computed here from the same noise."""
    model = small.model()
    if (head := head_of(config.spec)) is not None:
        with torch.random.fork_rng():
            torch.manual_seed(7)
            model = load_base(Path(config.runs_uri.removeprefix("file://")).parent / "base", torch.float32, head=head)
    if config.spec.method.type is MethodType.LORA:
        with torch.random.fork_rng():
            torch.manual_seed(6)
            model = add_lora(model, config.spec.method.lora or LoRA())
    if foresees(config.spec):
        value.attach(model)
    noise = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for _, parameter in sorted(model.named_parameters()):
            if parameter.requires_grad:
                parameter.add_(change * torch.randn(parameter.shape, generator=noise))
    return model.eval()


def commit_checkpoint(
    config: RunConfig, *, step: int, change: float, total: int = 10, eval_loss: float | None = None
) -> None:
    trainable = {n: p.detach().clone() for n, p in trainable_parameters(trained(config, change)).items()}
    position = Position(
        step=step,
        epoch=1.0,
        tokens=1,
        loss=1.0,
        total_steps=total,
        world_size=1,
        global_batch_size=8,
        rows=48,
        eval_loss=eval_loss,
    )
    root = Path(config.runs_uri.removeprefix("file://")).parent
    scratch = root / "committing"
    attempt = config.model_copy(update={"attempt": 1})
    commit(attempt, open_run(attempt), open_checkpoints(attempt), Snapshot(position, trainable), scratch)


def run(config: RunConfig, root: Path) -> PublishReport:
    """Publishes as the pod would; the scratch volume is `root/scratch`, the report the termination message."""
    code = publish(config)
    report = PublishReport.model_validate_json((root / "termination").read_text())
    assert report.exit_code == code
    return report
