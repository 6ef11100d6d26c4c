"""A package that is hidden is not found, and nobody who has it notices."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from finetune_trainer.common.hidden import hidden


def test_who_looks_for_it_does_not_find_it() -> None:
    with hidden("json"):
        assert importlib.util.find_spec("json") is None
        with pytest.raises(ImportError):
            import json
    import json

    assert json.loads("1") == 1
    assert importlib.util.find_spec("json") is not None


def test_what_was_not_loaded_is_not_loaded_afterwards() -> None:
    with hidden("no_such_package"):
        pass
    assert "no_such_package" not in sys.modules


def test_it_comes_back_when_something_fails() -> None:
    with pytest.raises(ValueError, match="x"), hidden("json"):
        raise ValueError("x")
    import json

    assert json.loads("1") == 1


@pytest.mark.slow
def test_a_lora_rank_does_without_bitsandbytes_and_a_saved_model_without_deepspeed() -> None:
    """In a process of their own: other tests load both."""
    code = """
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from finetune_trainer.methods.lora import add_lora
from finetune_api.method import Method
from finetune_trainer.model.headers import TensorInfo
from finetune_trainer.publish import export
from tests.trainer import small
base = small.model()
lora = Method.model_validate({"type": "LoRA", "lora": {"rank": 2}}).lora
model = add_lora(base, lora)
with TemporaryDirectory() as folder:
    export._save_weights(small.model(), {"w": TensorInfo("w", "F32", (1,))}, Path(folder))
    print(sorted(p.name for p in Path(folder).iterdir()))
print(sorted({"bitsandbytes", "deepspeed", "mlflow"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["['config.json', 'generation_config.json', 'model.safetensors']", "[]"]
