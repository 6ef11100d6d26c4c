"""Opens storage with the credentials of the Secret that the pod's config names."""

from __future__ import annotations

from typing import Protocol

from finetune_api.exitcodes import ExitCode
from finetune_api.runconfig import RunConfig
from finetune_artifacts import Store, open_store
from finetune_trainer.common.config import pvc_dir, secrets_dir
from finetune_trainer.common.errors import RunError
from finetune_trainer.common.pins import pinned


class Tenant(Protocol):
    """Whose Secrets are mounted: a RunConfig or a ServeConfig."""

    @property
    def namespace(self) -> str: ...


def open_for(config: Tenant, uri: str, secret_name: str | None) -> Store:
    """The store at `uri`, a repository of the Hub at the commit that preflight found. Credentials are the files of
    `SECRETS_DIR/<secret_name>`, if a Secret is named.

    Raises RunError (69, SecretMissing) when the folder is missing or empty: the Secret may still arrive.
    """
    credentials = None
    if secret_name is not None:
        credentials = secrets_dir() / secret_name
        if not credentials.is_dir() or not any(p for p in credentials.iterdir() if not p.name.startswith("..")):
            raise RunError(
                ExitCode.WAITING,
                f"the Secret {secret_name!r} for {uri} does not exist in namespace {config.namespace} or is empty; "
                f"create it with {secret_keys(uri)}",
                reason="SecretMissing",
            )
    at = pinned(uri, config.pins) if isinstance(config, RunConfig) else uri
    return open_store(at, credentials=credentials, mounts=pvc_dir())


def secret_keys(uri: str) -> str:
    """What a Secret for this storage holds."""
    if uri.startswith("hf://"):
        return "HF_TOKEN and, for a mirror, HF_ENDPOINT"
    return "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, if needed, AWS_ENDPOINT_URL"


def open_run(config: RunConfig) -> Store:
    return open_for(config, config.run_uri, config.runs_secret)


def open_checkpoints(config: RunConfig) -> Store:
    return open_for(config, config.checkpoints_uri, config.checkpoints_secret)
