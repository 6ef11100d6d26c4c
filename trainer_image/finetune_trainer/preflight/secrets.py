"""Are the Secrets there? Their volumes are optional in the preflight pod, so a missing one is an empty folder.

All missing ones are named at once: nobody wants to learn of the second after creating the first.
"""

from __future__ import annotations

from pathlib import Path

from finetune_api.objective import taught_from
from finetune_api.runconfig import RunConfig
from finetune_trainer.data.sources import every_source
from finetune_trainer.preflight.problems import waiting
from finetune_trainer.preflight.reasons import Reason


def referenced(config: RunConfig) -> dict[str, str]:
    """The Secrets the job needs: name → the first field that names it."""
    spec = config.spec
    named = [("spec.model.secretRef", spec.model.secret_ref)]
    named += [(f"{n.field}.secretRef", n.source.secret_ref) for n in every_source(config)]
    named += [
        ("spec.checkpoint.secretRef", spec.checkpoint.secret_ref),
        ("spec.output.secretRef", spec.output.secret_ref),
    ]
    if taught := taught_from(spec):
        named.append((f"{taught[0]}.secretRef", taught[1].secret_ref))
    if spec.tracking:
        named += [
            (f"spec.tracking.{kind}.secretRef", block.secret_ref)
            for kind, block in (("mlflow", spec.tracking.mlflow), ("wandb", spec.tracking.wandb))
            if block
        ]
    found: dict[str, str] = {}
    for field, ref in named:
        if ref is not None:
            found.setdefault(ref.name, field)
    if config.runs_secret is not None:
        found.setdefault(config.runs_secret, "the installation's artifacts.secretName")
    return found


def check_secrets(config: RunConfig, folder: Path) -> list[str]:
    """The names that are there. Raises Problem (69) naming every missing one."""
    needed = referenced(config)
    missing = [name for name in needed if not _present(folder / name)]
    if missing:
        first = needed[missing[0]]
        what = ", ".join(f"{name!r} ({needed[name]})" for name in missing)
        raise waiting(
            first if first.startswith("spec.") else None,
            f"no Secret {what} with any key in namespace {config.namespace!r}; create it with the keys "
            f"{_keys(first)}. It is looked for again",
            Reason.WAITING_FOR_SECRET,
        )
    return list(needed)


def _keys(field: str) -> str:
    """What a Secret of this field is made of."""
    if field.startswith("spec.tracking.mlflow"):
        return "MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
    if field.startswith("spec.tracking.wandb"):
        return "WANDB_API_KEY"
    return "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, if needed, AWS_ENDPOINT_URL"


def _present(folder: Path) -> bool:
    try:
        return any(not entry.name.startswith("..") for entry in folder.iterdir())
    except OSError:
        return False
