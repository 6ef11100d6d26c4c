"""From the base model and a checkpoint's trainable part to a folder that plain transformers (and vLLM) load.

Weights are combined in fp32 and stored in the base's own types. Every other file is the base's, byte for byte: the
configuration, the tokenizer, the chat template and the generation defaults do not change unless somebody asks.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from finetune_api.exitcodes import ExitCode
from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.layout import MANIFEST
from finetune_api.objective import foresees, head_of, scores
from finetune_artifacts import open_store
from finetune_trainer.checkpoint.restore import load_memory, load_trainable
from finetune_trainer.common.errors import RunError
from finetune_trainer.common.hidden import hidden
from finetune_trainer.common.pins import name_on_the_hub
from finetune_trainer.engine import value
from finetune_trainer.engine.model import load_base, with_new_parameters
from finetune_trainer.methods.choose import method_of
from finetune_trainer.methods.remember import memory_of
from finetune_trainer.model.headers import TensorInfo
from finetune_trainer.model.inspect import inspect_tensors
from finetune_trainer.model.published import MARKER
from finetune_trainer.publish.kind import ADAPTER, MERGED, WRITES_NOTHING, kind_of

_SHARD = "5GB"
_NOT_COPIED = frozenset({MANIFEST, MARKER, "README.md"})
"""The base's own manifest and model card speak of another model."""
_WEIGHTS = (
    ".safetensors",
    ".safetensors.index.json",
    ".bin",
    ".bin.index.json",
    ".pt",
    ".pth",
    ".gguf",
    ".h5",
    ".msgpack",
)
_TYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def trained_model(spec: FineTuneJobSpec, base: Path, checkpoint: Path, device: torch.device) -> Any:
    """The model as training left it, fp32, adapter on. Raises RunError (73, 72)."""
    model: Any = with_new_parameters(spec, load_base(base, torch.float32, head=head_of(spec)))
    load_trainable(model, checkpoint)
    load_memory(memory_of(model), checkpoint)
    _refuse_not_finite({n: p for n, p in model.named_parameters() if p.requires_grad})
    if foresees(spec):
        value.detach(model)
    return model.to(device).eval()


def combine(model: Any, spec: FineTuneJobSpec) -> Any:
    """The trained model with its adapter merged in fp32, where it is to be merged; `model` must not be used then."""
    return method_of(spec.method).merge(model) if kind_of(spec) in (MERGED, *WRITES_NOTHING) else model


def round_to_stored(model: Any, base: Path) -> None:
    """Every weight becomes a value that the base's own type can hold; the model stays fp32.

    What is written afterwards is then exactly this model, and what rounding costs can be told apart from a bad merge.
    """
    stored = stored_types(base)
    usual = _usual_type(stored)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                tensor.copy_(tensor.to(_type_of(name, stored, usual)))


def write(model: Any, spec: FineTuneJobSpec, base: Path, folder: Path) -> None:
    """Writes the final artefact to `folder`, which is emptied first. Raises RunError (72) for values not finite."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if kind_of(spec) == ADAPTER:
        method_of(spec.method).save_adapter(model, folder)
        adapter = folder / "adapter_config.json"
        name, revision = name_on_the_hub(spec.model.uri) or (spec.model.uri, None)
        base_model = {"base_model_name_or_path": name, "revision": revision}
        adapter.write_text(json.dumps(json.loads(adapter.read_text()) | base_model))
        (folder / "README.md").unlink(missing_ok=True)
        _copy_files(base, folder, skip=("config.json", "generation_config.json"))
        return
    _save_weights(model, stored_types(base), folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    # What scores has another head than the base, and a configuration that says so.
    _copy_files(base, folder, skip=("config.json", "generation_config.json") if scores(spec) else ())


def stored_types(folder: Path) -> dict[str, TensorInfo]:
    """Name → dtype and shape of the tensors in a model directory."""
    store = open_store(f"file://{folder.resolve()}")
    return {tensor.name: tensor for tensor in inspect_tensors(store, list(store.list()))}


def _save_weights(model: Any, stored: Mapping[str, TensorInfo], folder: Path) -> None:
    from transformers import GenerationConfig

    usual = _usual_type(stored)
    state = {}
    for name, tensor in model.state_dict().items():
        state[name] = tensor.to("cpu", _type_of(name, stored, usual)) if tensor.is_floating_point() else tensor.cpu()
    _refuse_not_finite(state)
    # A base with sampling defaults that transformers now calls invalid must not fail here; its own file is copied.
    if model.can_generate():
        model.generation_config = GenerationConfig()
    # To unwrap the model it would import DeepSpeed, and that mlflow: two seconds for a model that is not wrapped.
    with hidden("deepspeed"):
        model.save_pretrained(folder, state_dict=state, max_shard_size=_SHARD)


def _type_of(name: str, stored: Mapping[str, TensorInfo], usual: torch.dtype) -> torch.dtype:
    return _TYPES.get(stored[name].dtype, usual) if name in stored else usual


def _usual_type(stored: Mapping[str, TensorInfo]) -> torch.dtype:
    """The type that holds most of the parameters."""
    amounts: dict[str, int] = {}
    for tensor in stored.values():
        amounts[tensor.dtype] = amounts.get(tensor.dtype, 0) + tensor.elements
    return _TYPES.get(max(amounts, key=lambda name: amounts[name]), torch.float32)


def _refuse_not_finite(state: Mapping[str, torch.Tensor]) -> None:
    bad = [name for name, tensor in state.items() if tensor.is_floating_point() and not bool(tensor.isfinite().all())]
    if bad:
        raise RunError(
            ExitCode.DIVERGED,
            f"{len(bad)} tensors of the final model hold values that are not finite, {bad[0]} for example; training "
            "diverged: lower training.learningRate",
        )


def _copy_files(base: Path, folder: Path, *, skip: tuple[str, ...] = ()) -> None:
    for path in sorted(base.rglob("*")):
        relative = path.relative_to(base)
        hidden = any(part.startswith(".") for part in relative.parts)
        if (
            not path.is_file()
            or hidden
            or path.name.endswith(_WEIGHTS)
            or relative.as_posix() in _NOT_COPIED.union(skip)
        ):
            continue
        if len(relative.parts) > 1 and relative.parts[0] != "additional_chat_templates":
            continue
        target = folder / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
