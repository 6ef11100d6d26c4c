"""This machine in a cluster's stead: what of the job's shape is kept, and one run of a job at a time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from finetune_api import runconfig as rc
from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.runkey import run_key
from finetune_cli.changes import absolute_paths
from finetune_cli.check import spec_of
from finetune_cli.manifests import Manifest, read
from finetune_cli.place import Given, locked, on_this_machine, prepared, shape
from finetune_trainer.common.errors import RunError
from tests.cli.manifests import JOB, write


def job(folder: Path, resources: str) -> tuple[Manifest, FineTuneJobSpec]:
    (manifest,) = read([str(write(folder, JOB.replace("{gpusPerNode: 0}", resources)))])
    absolute_paths(manifest)
    return manifest, spec_of(manifest)


@pytest.mark.parametrize(
    ("resources", "wanted", "gpus", "expected"),
    [
        ("{gpusPerNode: 0}", None, 0, (0, 1)),
        ("{gpusPerNode: 0, processesPerNode: 3}", None, 0, (0, 3)),
        ("{gpusPerNode: 0}", 2, 8, (0, 2)),
        ("{gpusPerNode: 8, nodes: 4}", None, 2, (2, 2)),
        ("{gpusPerNode: 8}", 1, 2, (1, 1)),
        ("{gpusPerNode: 8}", None, 0, (0, 1)),
    ],
)
def test_shape(tmp_path: Path, resources: str, wanted: int | None, gpus: int, expected: tuple[int, int]) -> None:
    assert shape(job(tmp_path, resources)[1], wanted, gpus) == expected


def test_more_processes_than_gpus(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="this machine has 2 GPUs"):
        shape(job(tmp_path, "{gpusPerNode: 8}")[1], 3, 2)


def test_the_run_is_the_same_run_on_this_machine(tmp_path: Path) -> None:
    _, spec = job(tmp_path, "{gpusPerNode: 8, nodes: 4, limits: {memory: 1Gi}}")
    here = on_this_machine(spec, 0, 2)
    assert (here.resources.nodes, here.resources.limits) == (1, None)
    keys = {run_key(s, model_revision="m", data_fingerprint="d") for s in (spec, here)}
    assert len(keys) == 1


def test_one_at_a_time_and_nothing_is_left(tmp_path: Path) -> None:
    manifest, spec = job(tmp_path, "{gpusPerNode: 0}")
    given = Given(tmp_path / "runs", {}, {})
    before = os.environ.get(rc.SECRETS_DIR_ENV)
    with prepared(manifest, spec, given) as place, locked(place):
        mounts = place.mounts
        assert place.runs == tmp_path / "runs" / "team-a" / "router"
        with pytest.raises(RunError, match="another `finetune run` is at work on team-a/router"), locked(place):
            pass
    assert not mounts.exists()
    assert os.environ.get(rc.SECRETS_DIR_ENV) == before
