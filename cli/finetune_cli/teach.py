"""`finetune teach`: ask a job's teacher about every record on this machine, once, and keep its answers as files."""

from __future__ import annotations

import contextlib
import io
import os
from dataclasses import dataclass
from pathlib import Path

from finetune_api.exitcodes import ExitCode
from finetune_cli import place
from finetune_cli.examining import preflight
from finetune_cli.jobs import one_job, refuse_custom
from finetune_cli.say import Voice
from finetune_trainer.common.errors import RunError
from finetune_trainer.common.places import Places

SCRATCH = "teach"


@dataclass(frozen=True)
class Options:
    files: list[str]
    given: place.Given
    name: str | None
    assignments: list[str]
    to: Path
    top_k: int


def teach(options: Options, voice: Voice) -> int:
    """Raises RunError. The folder has to be new: files of two teachings are not to be mixed."""
    manifest, spec = one_job(options.files, options.name, options.assignments)
    refuse_custom(spec)
    if options.to.exists() and any(options.to.iterdir()):
        raise RunError(ExitCode.INVALID_SPEC, f"--to {options.to}: is not empty; name a new folder")
    with place.prepared(manifest, spec, options.given) as here, place.locked(here):
        found = preflight(here.config, voice)
        config = here.config.model_copy(update={"run_key": found.run_key})
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        from finetune_trainer.objectives.teach import teach as ask

        voice.stage("teach", f"asking the teacher for its {options.top_k} likeliest tokens at each target")
        folder = Places(here.work / SCRATCH)

        def tell(done: int, total: int) -> None:
            voice.stage("teach", f"{done:,} of {total:,} records")

        with contextlib.redirect_stdout(io.StringIO()):  # the data plane's log lines, which are for pods
            made = ask(config, folder, options.to, options.top_k, tell)
    size = sum(path.stat().st_size for path in made)
    voice.stage(
        "done",
        f"{len(made)} files, {size:,} bytes in {options.to}; copy them to your store and set "
        "objective.distill.topK: {uri: …} in the teacher's place",
        "green",
    )
    voice.document({"exitCode": 0, "files": [str(path) for path in made], "bytes": size, "topK": options.top_k})
    return int(ExitCode.DONE)
