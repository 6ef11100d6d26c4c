"""`/metrics` in Prometheus' text format, written by hand: a dozen gauges need no library in the trainer image."""

from __future__ import annotations

from finetune_api.reports import Stage
from finetune_trainer.launcher.board import Board

PREFIX = "finetune_trainer"


def exposition(board: Board) -> str:
    progress = board.progress()
    checkpoint = progress.checkpoint
    gauges: list[tuple[str, str, float | int | None]] = [
        ("step", "Optimizer steps done.", progress.step),
        ("total_steps", "Optimizer steps planned.", progress.total_steps),
        ("epoch", "Epochs done.", progress.epoch),
        ("loss", "Training loss of the last step, per target token.", progress.loss),
        ("eval_loss", "Held-out loss, when it was last looked at.", progress.eval_loss),
        ("tokens_per_second", "Tokens per second of the whole gang.", progress.tokens_per_second),
        ("step_seconds", "Seconds per optimizer step.", progress.step_seconds),
        ("data_wait_percent", "Share of step time spent waiting for data.", progress.data_wait_percent),
        ("eta_seconds", "Seconds to the last step.", progress.eta_seconds),
        ("checkpoint_step", "Step of the newest checkpoint of this attempt.", checkpoint.step if checkpoint else None),
        ("checkpoint_seconds", "From the agreed step to the commit.", checkpoint.seconds if checkpoint else None),
        ("checkpoint_bytes", "Size of the newest checkpoint.", checkpoint.bytes if checkpoint else None),
        ("skipped_steps_total", "Batches left out by onNaN or onSpike.", progress.skipped_steps),
        ("checkpoint_interval_seconds", "Between two checkpoints, for now.", progress.checkpoint_interval_seconds),
        ("slowest_rank_ratio", "Of the rank that all wait for; over the fastest one's.", progress.slowest_ratio),
        ("stop_requested", "1 when the gang is asked to stop.", int(board.stop is not None)),
    ]
    lines = []
    for name, help_text, value in gauges:
        if value is not None:
            lines += [
                f"# HELP {PREFIX}_{name} {help_text}",
                f"# TYPE {PREFIX}_{name} gauge",
                f"{PREFIX}_{name} {value}",
            ]
    lines += [f"# HELP {PREFIX}_stage 1 for the current stage.", f"# TYPE {PREFIX}_stage gauge"]
    lines += [f'{PREFIX}_stage{{stage="{stage}"}} {int(stage is progress.stage)}' for stage in Stage]
    return "\n".join(lines) + "\n"
