"""This machine in a cluster's stead: one node, its GPUs or processes, and directories where pods have volumes."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from finetune_api import runconfig as rc
from finetune_api.exitcodes import ExitCode
from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.runconfig import RunConfig
from finetune_api.runkey import spec_digest
from finetune_cli import access
from finetune_cli.manifests import Manifest
from finetune_trainer.common.errors import RunError

WORK = ".local"
"""Below the job's directory, beside its runs: scratch, logs, the lock."""
GRACE_SECONDS = 600.0
"""Nobody takes this machine away; a stop may take as long as its checkpoint does."""


@dataclass(frozen=True)
class Given:
    """What the command line says about this machine."""

    folder: Path
    secrets: dict[str, Path]
    volumes: dict[str, Path]


@dataclass(frozen=True)
class Place:
    runs: Path
    mounts: Path
    config: RunConfig

    @property
    def work(self) -> Path:
        return self.runs / WORK

    def scratch(self, run_key: str) -> Path:
        return self.work / f"scratch-{run_key}"

    def environment(self, scratch: Path) -> dict[str, str]:
        """For a process that stands in for a pod."""
        processes = self.config.processes_per_node
        job = {item.name: item.value for item in self.config.spec.resources.env or []}
        return {
            "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // processes)),
            **os.environ,
            **job,
            rc.CONFIG_ENV: str(scratch / "run.json"),
            rc.SCRATCH_DIR_ENV: str(scratch),
            rc.TOKEN_ENV_PATH: str(scratch / "token"),
            rc.TERMINATION_LOG_ENV: str(scratch / "termination"),
            rc.SECRETS_DIR_ENV: str(self.mounts / "secrets"),
            rc.PVC_DIR_ENV: str(self.mounts / "pvc"),
            rc.INDEX_ENV: "0",
            "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
        }


def on_this_machine(spec: FineTuneJobSpec, gpus: int, processes: int) -> FineTuneJobSpec:
    """Of the job's shape only what is here; none of it is part of the run's identity."""
    resources = spec.resources.model_copy(
        update={"nodes": 1, "gpus_per_node": gpus, "processes_per_node": processes, "requests": None, "limits": None}
    )
    return spec.model_copy(update={"resources": resources})


def count_gpus() -> int:
    """Asked of torch, in a process of its own: it knows what CUDA_VISIBLE_DEVICES and the driver leave."""
    if shutil.which("nvidia-smi") is None and not Path("/dev/nvidiactl").exists():
        return 0
    ask = "import torch; print(torch.cuda.device_count())"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=False)
    return int(done.stdout) if done.returncode == 0 and done.stdout.strip().isdigit() else 0


def shape(spec: FineTuneJobSpec, wanted: int | None, gpus: int) -> tuple[int, int]:
    """(GPUs, processes). A job for GPUs gets all that are here, on a machine without any it trains on the CPU."""
    if spec.resources.gpus_per_node == 0 or gpus == 0:
        return 0, wanted or (spec.resources.processes_per_node or 1 if spec.resources.gpus_per_node == 0 else 1)
    if wanted is not None and wanted > gpus:
        raise RunError(
            ExitCode.INVALID_SPEC,
            f"--processes {wanted}: this machine has {gpus} GPUs, one for each process; lower it, or train on the CPU "
            "with --set spec.resources.gpusPerNode=0",
        )
    return wanted or gpus, wanted or gpus


@contextlib.contextmanager
def prepared(manifest: Manifest, spec: FineTuneJobSpec, given: Given) -> Iterator[Place]:
    """The place, with the job's Secrets and volumes laid out; they are gone afterwards. Raises RunError (64)."""
    runs = given.folder.resolve() / manifest.namespace / manifest.name
    resources = spec.resources
    config = RunConfig(
        namespace=manifest.namespace,
        name=manifest.name,
        uid=str(uuid.uuid5(uuid.NAMESPACE_URL, f"file://{runs}")),
        spec=spec,
        spec_digest=spec_digest(spec),
        runs_uri=f"file://{runs}",
        nodes=resources.nodes,
        gpus_per_node=resources.gpus_per_node,
        processes_per_node=resources.processes_per_node or max(1, resources.gpus_per_node),
        grace_seconds=GRACE_SECONDS,
    )
    with tempfile.TemporaryDirectory(prefix="finetune-") as folder:
        mounts = Path(folder)
        for name in ("secrets", "pvc"):
            (mounts / name).mkdir()
        access.lay_out_secrets(config, given.secrets, mounts / "secrets")
        access.lay_out_volumes(config, given.volumes, mounts / "pvc")
        with _environment({rc.SECRETS_DIR_ENV: str(mounts / "secrets"), rc.PVC_DIR_ENV: str(mounts / "pvc")}):
            yield Place(runs, mounts, config)


@contextlib.contextmanager
def locked(place: Place) -> Iterator[None]:
    """One `finetune run` of a job at a time. Raises RunError (64)."""
    try:
        place.work.mkdir(parents=True, exist_ok=True)
        lock = (place.work / "lock").open("w")
    except OSError as error:
        raise RunError(
            ExitCode.STORAGE, f"{place.runs} cannot be written ({error.strerror}); choose another --dir"
        ) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RunError(
                ExitCode.INVALID_SPEC,
                f"another `finetune run` is at work on {place.config.namespace}/{place.config.name}; wait for it, stop "
                "it with Ctrl-C, or choose another --dir",
                reason="AlreadyRunning",
            ) from None
        yield


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value
