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
from finetune_api.running import SecretRef

CONFIG_PATH = "/etc/finetune/run.json"
CONFIG_ENV = "FINETUNE_CONFIG"
"""Names another path of the config (local runs, tests)."""
TOKEN_PATH = "/etc/finetune-token/token"  # noqa: S105 - a path, not a password
TOKEN_ENV_PATH = "FINETUNE_TOKEN_PATH"  # noqa: S105 - the name of a variable that holds a path
SECRETS_DIR = "/var/run/finetune/secrets"
SECRETS_DIR_ENV = "FINETUNE_SECRETS_DIR"
PVC_DIR = "/mnt/pvc"
PVC_DIR_ENV = "FINETUNE_PVC_DIR"
SCRATCH_DIR = "/var/finetune"
"""An emptyDir: model cache, data, work files, TMPDIR, HOME."""
PUBLISH_DIR = "publish"
"""Below SCRATCH_DIR: what the publish pod's containers leave for each other."""
SERVED_CHECK_SCRIPT = f"{SCRATCH_DIR}/{PUBLISH_DIR}/served_check.py"
"""Left there by the trainer image for the serving image, in which nothing of ours is installed."""
SCRATCH_DIR_ENV = "FINETUNE_SCRATCH_DIR"
INDEX_ENV = "JOB_COMPLETION_INDEX"
"""Set by the Job controller: this pod's node rank."""
TERMINATION_LOG = "/dev/termination-log"
TERMINATION_LOG_ENV = "FINETUNE_TERMINATION_LOG"
TERMINATION_LOG_MAX = 4096
PORT = 8470
"""Of the launcher's endpoints."""
RENDEZVOUS_PORT = 29500
TOKEN_HEADER = "X-Finetune-Token"  # noqa: S105 - the name of a header


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
