"""Are the Secrets there? Their volumes are optional in the preflight pod, so a missing one is an empty folder.

All missing ones are named at once: nobody wants to learn of the second after creating the first.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from finetune_api.objective import taught_from
from finetune_api.runconfig import RunConfig
from finetune_trainer.common.stores import secret_keys
from finetune_trainer.data.sources import every_source
from finetune_trainer.preflight.problems import waiting
from finetune_trainer.preflight.reasons import Reason

_STORE = secret_keys("s3://")
_MLFLOW = "MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"


@dataclass(frozen=True)
class Needed:
    field: str
    """The first one that names the Secret."""
    keys: str
    """What it is made of."""


def referenced(config: RunConfig) -> dict[str, Needed]:
    """The Secrets the job needs, by name."""
    spec, taught = config.spec, taught_from(config.spec)
    read = [("spec.model", spec.model), *((n.field, n.source) for n in every_source(config))]
    read += [taught] if taught else []
    named = [(field, source.secret_ref, secret_keys(source.uri)) for field, source in read]
    named += [
        ("spec.checkpoint", spec.checkpoint.secret_ref, _STORE),
        ("spec.output", spec.output.secret_ref, _STORE),
    ]
    if spec.tracking:
        mlflow, wandb = spec.tracking.mlflow, spec.tracking.wandb
        named += [("spec.tracking.mlflow", mlflow.secret_ref, _MLFLOW)] if mlflow else []
        named += [("spec.tracking.wandb", wandb.secret_ref, "WANDB_API_KEY")] if wandb else []
    found: dict[str, Needed] = {}
    for field, ref, keys in named:
        if ref is not None:
            found.setdefault(ref.name, Needed(f"{field}.secretRef", keys))
    if config.runs_secret is not None:
        found.setdefault(config.runs_secret, Needed("the installation's artifacts.secretName", _STORE))
    return found


def check_secrets(config: RunConfig, folder: Path) -> list[str]:
    """The names that are there. Raises Problem (69) naming every missing one."""
    needed = referenced(config)
    missing = [name for name in needed if not _present(folder / name)]
    if missing:
        first = needed[missing[0]]
        what = ", ".join(f"{name!r} ({needed[name].field})" for name in missing)
        raise waiting(
            first.field if first.field.startswith("spec.") else None,
            f"no Secret {what} with any key in namespace {config.namespace!r}; create it with the keys "
            f"{first.keys}. It is looked for again",
            Reason.WAITING_FOR_SECRET,
        )
    return list(needed)


def _present(folder: Path) -> bool:
    try:
        return any(not entry.name.startswith("..") for entry in folder.iterdir())
    except OSError:
        return False
