"""From the files of a command line to the one FineTuneJob that it is about, checked."""

from __future__ import annotations

from finetune_api.exitcodes import ExitCode
from finetune_api.finetunejob import FineTuneJobSpec
from finetune_cli import changes
from finetune_cli.check import check, ours, spec_of
from finetune_cli.manifests import Manifest, Problem, read
from finetune_trainer.common.errors import RunError

KIND = "FineTuneJob"


class Invalid(RunError):
    """A manifest with mistakes, all of them."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(ExitCode.INVALID_SPEC, "\n".join(str(problem) for problem in problems))
        self.problems = problems


def one_job(files: list[str], name: str | None, assignments: list[str]) -> tuple[Manifest, FineTuneJobSpec]:
    """Raises Invalid, RunError (64)."""
    found = read(files)
    jobs = [m for m in found if m.kind == KIND and (ours(m) or check(m)) and name in (None, m.name)]
    if len(jobs) != 1:
        names = ", ".join(m.name for m in found if m.kind == KIND) or "none"
        wanted = f"no {KIND} {name!r}" if name and not jobs else f"{len(jobs)} {KIND}s"
        raise RunError(
            ExitCode.INVALID_SPEC,
            f"{', '.join(files)}: {wanted} (there: {names}); this command is about one: choose it with --name",
        )
    (manifest,) = jobs
    if isinstance(manifest.document.get("spec"), dict):
        changes.set_values(manifest, assignments)
        changes.absolute_paths(manifest)
    problems = check(manifest)
    if problems:
        raise Invalid(problems)
    return manifest, spec_of(manifest)


def refuse_custom(spec: FineTuneJobSpec) -> None:
    """Raises RunError (64): what another image holds can neither be run nor foreseen here."""
    if spec.is_custom:
        raise RunError(
            ExitCode.INVALID_SPEC,
            f"spec.trainer.type: Custom runs a program of the image {spec.trainer.image}, and this command starts no "
            "images; run the script by itself (its callback does nothing outside a pod), or apply the job to a cluster",
        )
