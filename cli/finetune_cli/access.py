"""What a cluster would mount: Secrets as folders of files, claims as directories.

A Secret that a manifest names comes from `--secret NAME=FILE` or, where none is given, from the variables of this shell
that such a Secret holds. Files are readable by this user only and vanish with the command; values are never shown.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from finetune_api.exitcodes import ExitCode
from finetune_api.inputs import inputs
from finetune_api.runconfig import RunConfig
from finetune_trainer.common.errors import RunError
from finetune_trainer.preflight.secrets import Needed, referenced

KEYS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_CA_BUNDLE",
    "HF_TOKEN",
    "HF_ENDPOINT",
    "HF_CA_BUNDLE",
    "MLFLOW_TRACKING_TOKEN",
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
    "WANDB_API_KEY",
)


def named(option: str, pairs: list[str], example: str) -> dict[str, Path]:
    """`NAME=PATH` options. Raises RunError (64)."""
    found = {}
    for pair in pairs:
        name, equals, path = pair.partition("=")
        if not equals or not name or not path:
            raise RunError(ExitCode.INVALID_SPEC, f"{option} {pair}: expected NAME=PATH, as in {option} {example}")
        found[name] = Path(path).expanduser()
    return found


def read_env_file(name: str, path: Path) -> dict[str, str]:
    """`KEY=value` lines (quotes, comments and `export` allowed), or a folder of one file per key."""
    option = f"--secret {name}={path}"
    try:
        if path.is_dir():
            return {p.name: p.read_text().strip() for p in path.iterdir() if p.is_file() and not p.name.startswith(".")}
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        cause = error.strerror if isinstance(error, OSError) else "it is not text"
        raise RunError(ExitCode.INVALID_SPEC, f"{option}: cannot be read ({cause})") from None
    found = {}
    for number, line in enumerate(lines, start=1):
        text = line.strip().removeprefix("export ")
        if not text or text.startswith("#"):
            continue
        key, equals, value = text.partition("=")
        if not equals or not key.strip().isidentifier():
            # The line itself may be a secret and is not repeated.
            raise RunError(ExitCode.INVALID_SPEC, f"{option}: line {number} is not KEY=value")
        try:
            found[key.strip()] = "".join(shlex.split(value, comments=True))
        except ValueError:
            raise RunError(ExitCode.INVALID_SPEC, f"{option}: line {number} has a quote that is not closed") from None
    if not found:
        raise RunError(ExitCode.INVALID_SPEC, f"{option}: holds no KEY=value line")
    return found


def lay_out_secrets(
    config: RunConfig, given: Mapping[str, Path], folder: Path, environment: Mapping[str, str] | None = None
) -> None:
    """Writes every Secret that the job names below `folder`. Raises RunError (64) naming those that nobody gave."""
    environment = os.environ if environment is None else environment
    needed = referenced(config)
    for name in given:
        if name not in needed:
            known = ", ".join(needed) or "no Secret"
            raise RunError(ExitCode.INVALID_SPEC, f"--secret {name}=…: the manifest does not name it; it names {known}")
    mine = {key: environment[key] for key in KEYS if environment.get(key)}
    missing = {n: needs for n, needs in needed.items() if n not in given and not _set(needs, mine)}
    if missing:
        what = ", ".join(f"{name!r} ({needs.field})" for name, needs in missing.items())
        first = next(iter(missing.values())).keys
        options = " ".join(f"--secret {name}=FILE" for name in missing)
        raise RunError(
            ExitCode.INVALID_SPEC,
            f"the manifest names the Secret {what}, and a cluster's Secrets are not here; pass {options} (a file of "
            f"KEY=value lines), or set {first} in this shell",
            reason="SecretMissing",
        )
    for name in needed:
        values = read_env_file(name, given[name]) if name in given else mine
        (folder / name).mkdir(mode=0o700, parents=True)
        for key, value in values.items():
            path = folder / name / key
            path.touch(mode=0o600)
            path.write_text(value)


def _set(needs: Needed, mine: Mapping[str, str]) -> bool:
    """Whether this shell has one of its keys, beside where the server is."""
    return any(key in mine and "ENDPOINT" not in key for key in re.findall(r"[A-Z]+_[A-Z_]+", needs.keys))


def lay_out_volumes(config: RunConfig, given: Mapping[str, Path], folder: Path) -> None:
    """Links `folder/<claim>` to the directory given for it. Raises RunError (64) naming claims without one."""
    claims = sorted({uri.removeprefix("pvc://").partition("/")[0] for uri in uris(config) if uri.startswith("pvc://")})
    missing = [claim for claim in claims if claim not in given]
    if missing:
        options = " ".join(f"--volume {claim}=/PATH" for claim in missing)
        raise RunError(
            ExitCode.INVALID_SPEC,
            f"the manifest uses the volume claim {', '.join(missing)}, and a cluster's volumes are not here; "
            f"pass {options}",
            reason="VolumeMissing",
        )
    for claim in claims:
        path = given[claim].resolve()
        if not path.is_dir():
            raise RunError(ExitCode.INVALID_SPEC, f"--volume {claim}={given[claim]}: is not a directory; create it")
        (folder / claim).symlink_to(path, target_is_directory=True)


def uris(config: RunConfig) -> list[str]:
    """Every place in storage that the job names."""
    spec = config.spec
    found = [*(stored.uri for stored in inputs(spec)), spec.checkpoint.uri, spec.output.uri]
    return [uri for uri in found if uri is not None]
