"""`finetune validate`: what the API server would refuse and, with `--data`, what preflight would say of the data."""

from __future__ import annotations

from dataclasses import asdict

from finetune_api.exitcodes import ExitCode
from finetune_artifacts import ArtifactError
from finetune_cli import changes, place
from finetune_cli.check import check, ours, spec_of
from finetune_cli.examining import here
from finetune_cli.manifests import Manifest, Problem, read
from finetune_cli.say import Voice
from finetune_trainer.common.errors import RunError
from finetune_trainer.preflight.dataset import list_sources, read_sample


def validate(files: list[str], voice: Voice, given: place.Given, *, local: bool, data: bool) -> int:
    """0, 64 (a manifest) or 66 (its data). Raises RunError (64) for a file that cannot be read."""
    manifests = read(files)
    problems: list[Problem] = []
    judged, code = 0, ExitCode.DONE
    for manifest in manifests:
        if local and isinstance(manifest.document.get("spec"), dict):
            changes.absolute_paths(manifest)
        found = check(manifest)
        if not found and not ours(manifest):
            voice.stage("skipped", f"{manifest.file}: {manifest.title} is not one of ours", "dim")
            continue
        judged += 1
        if found:
            code = ExitCode.INVALID_SPEC
        words = "is valid"
        if data and not found and manifest.kind == "FineTuneJob":
            words, found, data_code = _data(manifest, given)
            code = max(code, data_code) if code != ExitCode.INVALID_SPEC else code
        problems += found
        if not found:
            voice.stage("ok", f"{manifest.file}: {manifest.title} {words}", "green")
        for problem in found:
            voice.stage("wrong", str(problem), "red")
    if not judged:
        raise RunError(ExitCode.INVALID_SPEC, f"{', '.join(files)}: no FineTuneJob and no ModelDeployment in it")
    voice.document(
        {
            "valid": not problems,
            "exitCode": int(code),
            "objects": [m.title for m in manifests if ours(m)],
            "problems": [asdict(problem) for problem in problems],
        }
    )
    return int(code)


def _data(manifest: Manifest, given: place.Given) -> tuple[str, list[Problem], ExitCode]:
    """Words for what was read, or the first mistake in it."""
    try:
        with place.prepared(manifest, spec_of(manifest), given) as here_:
            if here_.config.spec.is_custom:
                count = sum(len(files) for _, files in list_sources(here_.config))
                return f"is valid, and {count} data files are there, for its script to judge", [], ExitCode.DONE
            sample = read_sample(here_.config, list_sources(here_.config))
    except RunError as error:
        field = getattr(error, "field", None) or "spec.data"
        code = error.code if error.code == ExitCode.INVALID_SPEC else ExitCode.DATA_INVALID
        return "", [manifest.problem(tuple(field.split(".")), here(error.message))], code
    except ArtifactError as error:
        return "", [manifest.problem(("spec", "data"), str(error))], ExitCode.DATA_INVALID
    skipped = f", {sample.malformed} malformed ones skipped" if sample.malformed else ""
    part = "" if sample.complete else " (the beginning of the data)"
    return f"is valid, and so are {sample.records:,} records{part}{skipped}", [], ExitCode.DONE
