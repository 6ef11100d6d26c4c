"""Where a data-plane pod finds what it is given, and which variables name another place in local runs and tests.

Standard library only: the launcher of custom trainers carries this module into images that have nothing of ours.
"""

from __future__ import annotations

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
