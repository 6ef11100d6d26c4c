"""`finetune plan`: what a run will come to, before anything runs: batches, steps, memory, checkpoints. No torch."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from finetune_api.exitcodes import ExitCode
from finetune_cli import place
from finetune_cli.examining import preflight
from finetune_cli.jobs import one_job, refuse_custom
from finetune_cli.say import Voice
from finetune_trainer.model.quantity import human_bytes
from finetune_trainer.preflight.consistency import check_batches
from finetune_trainer.preflight.dataset import list_sources, read_sample

_TITLES = {
    "parameters": "parameters",
    "trainableParameters": "trainable parameters",
    "memoryPerGpuBytes": "memory per GPU (process)",
    "checkpointBytes": "checkpoint",
    "capacityBytes": "memory that is there",
    "fits": "fits",
    "tokensPerSecondPerGpu": "tokens/s per GPU",
    "stepSeconds": "a step",
    "totalGpuHours": "GPU hours",
    "noticeFits": "fits the notice",
}


def plan(files: list[str], name: str | None, assignments: list[str], voice: Voice, given: place.Given) -> int:
    """For the shape that the manifest asks for. Raises RunError with preflight's codes."""
    manifest, spec = one_job(files, name, assignments)
    refuse_custom(spec)
    with place.prepared(manifest, spec, given) as here:
        found = preflight(here.config, voice)
        sample = read_sample(here.config, list_sources(here.config))
        batches = check_batches(here.config, sample)
    world = {
        "nodes": spec.resources.nodes,
        "processes": batches.world_size,
        "gpus": spec.resources.nodes * spec.resources.gpus_per_node,
    }
    steps = {
        "records": batches.rows,
        "recordsAreAll": sample.complete,
        "globalBatchSize": batches.global_batch,
        "microBatchSize": batches.micro_batch,
        "gradientAccumulation": batches.accumulation,
        "stepsPerEpoch": batches.steps_per_epoch,
        "totalSteps": batches.total_steps,
    }
    estimate = found.estimate.to_wire() if found.estimate else {}
    document: dict[str, Any] = {
        "name": manifest.name,
        "namespace": manifest.namespace,
        "runKey": found.run_key,
        "alreadyPublished": found.published is not None,
        **world,
        **steps,
        "estimate": estimate,
        "warnings": list(found.warnings),
    }
    _show(voice, document, sample.complete)
    voice.document(document | {"exitCode": 0})
    return int(ExitCode.DONE)


def _show(voice: Voice, document: dict[str, Any], complete: bool) -> None:
    table = Table(title=f"{document['namespace']}/{document['name']}", title_justify="left", show_header=False)
    table.add_column(style="cyan")
    table.add_column(justify="right")
    about = "" if complete else " (of the first 64 MiB of each file)"
    on = f"{document['gpus']} GPUs" if document["gpus"] else "CPU"
    table.add_row("processes", f"{document['processes']} on {document['nodes']} node(s), {on}")
    table.add_row("records to train on", f"{document['records']:,}{about}")
    table.add_row("global batch", f"{document['globalBatchSize']:,}")
    table.add_row(
        "per process and step", f"{document['gradientAccumulation']} micro-batches of {document['microBatchSize']}"
    )
    table.add_row("steps", f"{document['totalSteps']:,} ({document['stepsPerEpoch']:,} an epoch)")
    table.add_section()
    why: list[str] = []
    for name, value in document["estimate"].items():
        if isinstance(value, dict):
            for part, count in value.items():
                table.add_row(f"  {_words(part)}", human_bytes(int(count)))
        elif name.endswith("Why"):
            why.append(f"{_words(name.removesuffix('Why'))}: {value}")
        elif isinstance(value, str | int | float):
            shown = _shown(name, value)
            table.add_row(_TITLES.get(name, _words(name)), shown)
    table.add_section()
    table.add_row("run key", f"{document['runKey']}{' (already published)' if document['alreadyPublished'] else ''}")
    voice.console.print(table)
    for reason in why:
        voice.line(reason)


def _shown(name: str, value: str | float) -> str:
    if isinstance(value, str):
        return value
    if name.endswith("Bytes"):
        return human_bytes(int(value))
    if name.endswith("Seconds"):
        return f"{value:.3g} s"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def _words(name: str) -> str:
    """camelCase as words: what a newer estimate says is shown without being known here."""
    return "".join(f" {c.lower()}" if c.isupper() else c for c in name).removesuffix(" bytes").removesuffix(" seconds")
