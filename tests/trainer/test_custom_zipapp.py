"""What travels into images of which nothing is known but Python 3.9."""

from __future__ import annotations

import ast
import sys
import zipfile
from pathlib import Path

import pytest

from finetune_api import reports
from finetune_trainer.custom.zipapp import MODULES, sources, write
from finetune_trainer.foreign.verdict import of
from finetune_trainer.foreign.words import last_words, termination_message

OF_THE_IMAGE = {"finetune_trainer/integrations/hf.py": {"torch", "transformers"}}


@pytest.mark.parametrize(("name", "path"), list(sources()), ids=MODULES)
def test_every_module_is_python_3_9_and_standard_library(name: str, path: Path) -> None:
    tree = ast.parse(path.read_text(), feature_version=(3, 9))
    inside = {n.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for n in MODULES}
    for node in ast.walk(tree):
        assert not isinstance(node, ast.Match), name
        if isinstance(node, ast.ImportFrom):
            modules = [str(node.module)]
            if str(node.module) in inside:
                modules += [f"{node.module}.{a.name}" for a in node.names if f"{node.module}.{a.name}" in inside]
        elif isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        else:
            continue
        for module in modules:
            top = module.split(".")[0]
            known = top in sys.stdlib_module_names or module in inside or top in OF_THE_IMAGE.get(name, set())
            assert known, f"{name} imports {module}"
    if len(tree.body) > 1:
        assert "from __future__ import annotations" in path.read_text(), f"{name}: X | Y would be evaluated"
    assert not {"UTC", "StrEnum", "Self"} & {
        a.name for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for a in n.names
    }


def test_equal_sources_are_equal_bytes(tmp_path: Path) -> None:
    one, two = write(tmp_path / "a.pyz"), write(tmp_path / "deeper" / "b.pyz")
    assert one.read_bytes() == two.read_bytes()
    assert set(zipfile.ZipFile(one).namelist()) == {"__main__.py", *MODULES}


def test_last_words_are_what_the_operator_reads() -> None:
    at = "2026-01-01T00:00:00Z"
    progress = {"attempt": 2, "index": 1, "stage": "Training", "step": 7, "startStep": 3, "updatedAt": at}
    words = last_words(of(70, "x" * 5000, rank=3, trace="t" * 5000), progress, "tail")
    read = reports.LastWords.model_validate(words)
    assert (read.exit_code, read.reason, read.step, read.first_failing_rank) == (70, "Failed", 7, 3)
    text = termination_message(words)
    assert len(text) <= 4096
    assert reports.LastWords.model_validate_json(text).log_tail is None
    assert reports.Progress.model_validate(progress).step == 7
