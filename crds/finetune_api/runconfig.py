"""What a data-plane pod is told: one JSON document, the same type for preflight, training and publish.

It is mounted at `CONFIG_PATH`. Secrets never appear in it: it names Secrets, and the pod finds each one as a folder
`SECRETS_DIR/<name>` of files named like the usual environment variables.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from finetune_api.base import WireModel
from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.layout import checkpoints_uri, output_uri
from finetune_api.pod import (
    CONFIG_ENV,
    CONFIG_PATH,
    INDEX_ENV,
    PORT,
    PUBLISH_DIR,
    PVC_DIR,
    PVC_DIR_ENV,
    RENDEZVOUS_PORT,
    SCRATCH_DIR,
    SCRATCH_DIR_ENV,
    SECRETS_DIR,
    SECRETS_DIR_ENV,
    SERVED_CHECK_SCRIPT,
    TERMINATION_LOG,
    TERMINATION_LOG_ENV,
    TERMINATION_LOG_MAX,
    TOKEN_ENV_PATH,
    TOKEN_HEADER,
    TOKEN_PATH,
)
from finetune_api.running import SecretRef

__all__ = [
    "CONFIG_ENV",
    "CONFIG_PATH",
    "INDEX_ENV",
    "PORT",
    "PUBLISH_DIR",
    "PVC_DIR",
    "PVC_DIR_ENV",
    "RENDEZVOUS_PORT",
    "SCRATCH_DIR",
    "SCRATCH_DIR_ENV",
    "SECRETS_DIR",
    "SECRETS_DIR_ENV",
    "SERVED_CHECK_SCRIPT",
    "TERMINATION_LOG",
    "TERMINATION_LOG_ENV",
    "TERMINATION_LOG_MAX",
    "TOKEN_ENV_PATH",
    "TOKEN_HEADER",
    "TOKEN_PATH",
    "RunConfig",
]


class RunConfig(WireModel):
    """`worldSize = nodes * processesPerNode`; `masterAddress` is the DNS name (or address) of pod 0."""

    format: int = 1
    namespace: str
    name: str
    uid: str
    spec: FineTuneJobSpec
    spec_digest: str
    attempt: Annotated[int, Field(ge=0)] = 0
    """0 for preflight and publish."""
    runs_uri: str
    """`<artifacts.uri>/<namespace>/<name>`; the run directory is `<runsUri>/<runKey>`."""
    runs_secret: str | None = None
    run_key: str | None = None
    """Unknown to preflight, which finds it."""
    model_revision: str | None = None
    data_fingerprint: str | None = None
    teacher_revision: str | None = None
    pins: dict[str, str] = {}
    """Of repositories of the Hub whose URI names a branch or nothing, by `hf://…` without a path: the commit that
    preflight found. Every later pod reads this one."""
    nodes: int = 1
    processes_per_node: int = 1
    gpus_per_node: int = 0
    master_address: str = "127.0.0.1"
    peers: list[str] = []
    """Every pod's DNS name by index, so that launchers can pass a stop on to each other."""
    micro_batch_size: int | None = None
    """Set by the operator after an attempt ran out of memory; overrides the spec."""
    grace_seconds: float = 120.0
    """The pods' terminationGracePeriodSeconds: a stop must be over before this."""
    require_checkpoint: bool = False
    """True once a checkpoint was reported committed: resuming from nothing would then lose work silently (exit 73)."""

    serving_image: str | None = None
    """Publish: the image of the container that makes the served check. None: the pod has no such container."""

    @property
    def world_size(self) -> int:
        return self.nodes * self.processes_per_node

    @property
    def run_uri(self) -> str:
        """Raises ValueError before preflight found the run key."""
        if self.run_key is None:
            raise ValueError("the run key is not known yet")
        return f"{self.runs_uri}/{self.run_key}"

    @property
    def checkpoints_uri(self) -> str:
        return checkpoints_uri(self.spec, self.run_uri, self.run_key or "")

    @property
    def checkpoints_secret(self) -> str | None:
        return self._secret(self.spec.checkpoint.secret_ref, self.spec.checkpoint.uri)

    @property
    def output_uri(self) -> str:
        return output_uri(self.spec, self.run_uri)

    @property
    def output_secret(self) -> str | None:
        return self._secret(self.spec.output.secret_ref, self.spec.output.uri)

    def _secret(self, ref: SecretRef | None, uri: str | None) -> str | None:
        if ref is not None:
            return ref.name
        return self.runs_secret if uri is None else None
