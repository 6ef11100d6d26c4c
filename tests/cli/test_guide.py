"""The commands of the guide, run in its order on a tiny model."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.cli.manifests import REPO, finetune, write
from tests.docs.console import commands
from tests.trainer import tiny

PAGE = REPO / "docs" / "guides" / "train-here.md"


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_the_guide(tmp_path: Path) -> None:
    tiny.write_model(tmp_path / "base")
    tiny.write_data(tmp_path / "train.jsonl", 200)
    (manifest,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    write(tmp_path, manifest)
    ran = [c for c in commands(PAGE) if c.kind == "finetune"]
    assert {shlex.split(c.text)[1] for c in ran} == {"validate", "plan", "run"}
    for command in ran:
        program, *words = shlex.split(command.text)
        assert program == "finetune"
        done = finetune(*words, folder=tmp_path)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        for line in command.answer:
            assert line in done.stdout, f"{command}\nthe page promises: {line}\nit says: {done.stdout}"
