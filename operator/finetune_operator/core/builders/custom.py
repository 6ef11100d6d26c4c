"""The pod of a custom trainer: the user's image with our launcher in front of their command, and beside it a container
of ours that holds the storage.

    launcher   init       our small image writes the launcher, one file that needs Python's standard library only
    storage    sidecar    our small image, with every credential: fences, fetches, commits, keeps the output
    main                  the user's image, with none of them

A sidecar (an init container that is restarted) starts before `main` and is ended by the kubelet after it, so it needs
no sign that the script is over, and the pod's ending is that of `main`.
"""

from __future__ import annotations

from typing import Any

from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.publishing import PublishResources
from finetune_api.runconfig import PVC_DIR, SCRATCH_DIR, SECRETS_DIR
from finetune_operator.core.builders.restricted import work_env
from finetune_operator.core.names import LAUNCHER_CONTAINER, STORAGE_CONTAINER
from finetune_operator.core.types import Config

LAUNCHER_PATH = f"{SCRATCH_DIR}/bin/finetune-launcher.pyz"
_SMALL = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "2Gi"}}
_CREDENTIALS = (SECRETS_DIR, PVC_DIR)


def customise(pod: dict[str, Any], config: Config) -> None:
    """Turns a built-in trainer's pod into a custom one's, in place."""
    main = pod["containers"][0]
    ours = {k: v for k, v in main.items() if k not in ("args", "env", "ports", "image", "resources")} | {
        "image": config.small_image,
        "resources": _SMALL,
        "env": work_env(),
    }
    scratch = [m for m in main["volumeMounts"] if m["mountPath"] in (SCRATCH_DIR, "/tmp")]  # noqa: S108
    launcher = ours | {
        "name": LAUNCHER_CONTAINER,
        "command": ["python", "-m", "finetune_trainer.custom.zipapp", LAUNCHER_PATH],
        "volumeMounts": scratch,
    }
    storage = ours | {
        "name": STORAGE_CONTAINER,
        "command": ["python", "-m", "finetune_trainer", "accompany"],
        "restartPolicy": "Always",
    }
    del main["args"]
    main["command"] = ["python3", LAUNCHER_PATH]
    main["volumeMounts"] = [m for m in main["volumeMounts"] if not m["mountPath"].startswith(_CREDENTIALS)]
    pod["initContainers"] = [launcher, storage]


def publish_command() -> list[str]:
    return ["python", "-m", "finetune_trainer", "publish"]


def publish_resources(spec: FineTuneJobSpec, wanted: PublishResources) -> dict[str, Any]:
    """Nothing is computed: without a word of the user's it is as small as the storage container."""
    limits = dict(wanted.limits or _SMALL["limits"])
    if wanted.gpus:
        limits[spec.resources.gpu_resource] = str(wanted.gpus)
    return {"requests": dict(wanted.requests or _SMALL["requests"]), "limits": limits}
