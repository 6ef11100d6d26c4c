from __future__ import annotations

from pathlib import Path

import pytest

from finetune_cli.changes import absolute_paths, set_values
from finetune_cli.check import check
from finetune_cli.manifests import Manifest, read
from finetune_trainer.common.errors import RunError
from tests.cli.manifests import write


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    (found,) = read([str(write(tmp_path))])
    return found


def test_values_are_set(manifest: Manifest) -> None:
    set_values(manifest, ["spec.training.maxSteps=7", "spec.data.train[0].limit=5", "spec.retry.maxRestarts=1"])
    spec = manifest.document["spec"]
    assert spec["training"]["maxSteps"] == 7
    assert spec["data"]["train"][0]["limit"] == 5
    assert spec["retry"] == {"maxRestarts": 1}


def test_a_mistake_in_one_is_laid_at_its_door(manifest: Manifest) -> None:
    set_values(manifest, ["spec.training.maxSteps=0"])
    absolute_paths(manifest)
    (problem,) = check(manifest)
    assert str(problem).startswith("--set spec.training.maxSteps: spec.training.maxSteps: 0: must be greater")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("training.maxSteps=7", "expected PATH=VALUE with a path below spec"),
        ("spec.training.maxSteps", "expected PATH=VALUE"),
        ("spec.data.train[4].limit=5", "there are 1 entries"),
        ("spec.training.maxSteps.x=5", "maxSteps is not a block here"),
        ("spec..x=5", "is not a field"),
        ("spec.training.maxSteps=[", "is not a YAML value"),
    ],
)
def test_what_cannot_be_set(manifest: Manifest, text: str, expected: str) -> None:
    with pytest.raises(RunError) as raised:
        set_values(manifest, [text])
    assert expected in raised.value.message


def test_paths_are_relative_to_the_manifest(manifest: Manifest, tmp_path: Path) -> None:
    absolute_paths(manifest)
    assert manifest.document["spec"]["model"]["uri"] == f"file://{tmp_path}/model"
    assert manifest.document["spec"]["data"]["train"][0]["uri"] == f"file://{tmp_path}/data/train.jsonl"
