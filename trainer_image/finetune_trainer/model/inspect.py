"""Whether a directory is a model this trainer can train, answered without torch or transformers.

Each refusal names what was found and what to do. Pickled weights are refused on sight: reading them would run code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from finetune_artifacts import ArtifactError, Entry, Store
from finetune_trainer.model.headers import NotSafetensors, TensorInfo, read_header

CONFIG = "config.json"
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "tekken.json")
CHAT_TEMPLATE = "chat_template.jinja"
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
_CAUSAL = ("ForCausalLM", "LMHeadModel")
_SCORER = ("ForSequenceClassification",)
_HEAD = "score.weight"
_WORKERS = 8


class NotAModel(ValueError):
    """The directory is no model that can be trained; the text completes the sentence `the model at <uri> …`."""


class Incomplete(ValueError):
    """Files that the model's own index names are not there (yet)."""


@dataclass(frozen=True)
class ModelInfo:
    config: Mapping[str, Any]
    architecture: str
    tensors: tuple[TensorInfo, ...]
    has_chat_template: bool
    teacher: ModelInfo | None = None
    """A model that is loaded beside this one and only asked: a teacher, or a reward model."""

    @property
    def parameters(self) -> int:
        return sum(t.elements for t in self.tensors)

    @property
    def bytes(self) -> int:
        return sum(t.bytes for t in self.tensors)

    def number(self, *keys: str) -> int | None:
        """The first of these keys of config.json (or of its text_config) that holds a positive integer."""
        nested = self.config.get("text_config")
        for key in keys:
            for place in (self.config, nested if isinstance(nested, Mapping) else {}):
                value = place.get(key)
                if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                    return value
        return None


def inspect_model(store: Store, entries: list[Entry], *, scores: bool = False) -> ModelInfo:
    """`entries` is everything below the model's URI; `scores`: of a reward model, not of one that writes. Raises
    NotAModel, Incomplete, ArtifactError."""
    sizes = {entry.path: entry.size for entry in entries}
    if CONFIG not in sizes:
        raise NotAModel(f"has no {CONFIG}{_hint(sizes)}")
    config = _json(store, CONFIG)
    architecture = _architecture(config, scores=scores)
    if isinstance(config.get("quantization_config"), Mapping):
        method = config["quantization_config"].get("quant_method", "an unknown method")
        raise NotAModel(f"is quantized with {method!s:.40}; fine-tuning needs the original, unquantized weights")
    tensors = _tensors(store, sizes)
    if scores:
        _require_one_score(tensors)
    if not any(name in sizes for name in TOKENIZER_FILES):
        raise NotAModel(
            f"has no tokenizer: none of {', '.join(TOKENIZER_FILES)}; copy the tokenizer's files beside the weights"
        )
    return ModelInfo(config, architecture, tuple(tensors), _has_chat_template(store, sizes))


def inspect_tensors(store: Store, entries: list[Entry]) -> list[TensorInfo]:
    """Of a model of any kind. Raises NotAModel, Incomplete, ArtifactError."""
    return _tensors(store, {entry.path: entry.size for entry in entries})


def _architecture(config: Mapping[str, Any], *, scores: bool) -> str:
    found = config.get("architectures")
    if not isinstance(found, list) or not found or not all(isinstance(a, str) for a in found):
        raise NotAModel(f'has a {CONFIG} without `architectures`; expected for example ["LlamaForCausalLM"]')
    fitting = [a for a in found if a.endswith(_SCORER if scores else _CAUSAL)]
    if not fitting:
        expected = (
            "a reward model is expected (…ForSequenceClassification), as a job with objective Reward publishes it"
            if scores
            else "SFT needs a causal language model (…ForCausalLM)"
        )
        raise NotAModel(f"is a {', '.join(found):.80}; {expected}")
    return str(fitting[0])


def _require_one_score(tensors: list[TensorInfo]) -> None:
    head = next((tensor for tensor in tensors if tensor.name == _HEAD), None)
    if head is None:
        raise NotAModel(f"has no tensor {_HEAD}, so its scores would be random; name one that objective Reward trained")
    if head.shape[0] != 1:
        raise NotAModel(f"gives {head.shape[0]} numbers for a text, a classifier's; a reward model gives one")


def _tensors(store: Store, sizes: Mapping[str, int]) -> list[TensorInfo]:
    if INDEX in sizes:
        weight_map = _json(store, INDEX).get("weight_map")
        if not isinstance(weight_map, Mapping) or not weight_map:
            raise NotAModel(f"has an {INDEX} without a weight_map")
        shards = sorted({str(shard) for shard in weight_map.values()})
        missing = [shard for shard in shards if shard not in sizes]
        if missing:
            raise Incomplete(f"{INDEX} names {len(missing)} files that are not there: {', '.join(missing[:3])}")
    elif SINGLE in sizes:
        weight_map, shards = None, [SINGLE]
    else:
        raise NotAModel(_no_weights(sizes))
    with ThreadPoolExecutor(_WORKERS, thread_name_prefix="headers") as pool:
        headers = list(pool.map(lambda shard: _header(store, shard, sizes[shard]), shards))
    tensors = [tensor for header in headers for tensor in header]
    if weight_map is not None:
        found = {t.name: shard for shard, header in zip(shards, headers, strict=True) for t in header}
        wrong = [name for name, shard in weight_map.items() if found.get(name) != shard]
        if wrong:
            raise NotAModel(
                f"has an {INDEX} that does not fit its files: {len(wrong)} tensors are not where it says, "
                f"{wrong[0]!r:.80} for example; copy index and weights from the same model"
            )
    if not tensors:
        raise NotAModel("has safetensors files without a single tensor")
    return tensors


def _header(store: Store, path: str, size: int) -> list[TensorInfo]:
    try:
        return read_header(store, path, size)
    except NotSafetensors as error:
        raise NotAModel(f"has a {path} that cannot be read: {error}") from None


def _no_weights(sizes: Mapping[str, int]) -> str:
    pickles = [name for name in sorted(sizes) if name.endswith(_PICKLES)]
    if pickles:
        return (
            f"has its weights only as {pickles[0]}, a pickle, which can run code when it is read; convert it with "
            "transformers' save_pretrained, which writes safetensors"
        )
    return f"has no weights: neither {SINGLE} nor {INDEX}{_hint(sizes)}"


def _hint(sizes: Mapping[str, int]) -> str:
    if "adapter_config.json" in sizes:
        return "; it is a LoRA adapter, not a base model: name the base model"
    deeper = sorted(name for name in sizes if name.endswith(f"/{CONFIG}"))
    if deeper:
        return f"; there is one in {deeper[0].rpartition('/')[0]!r} below it: is that the model?"
    if any(name.endswith(".gguf") for name in sizes):
        return "; GGUF files cannot be trained: name the original model with safetensors weights"
    names = ", ".join(sorted(sizes)[:4])
    return f"; it holds {len(sizes)} files ({names:.120}). Expected a Hugging Face model directory"


def _has_chat_template(store: Store, sizes: Mapping[str, int]) -> bool:
    if CHAT_TEMPLATE in sizes or any(name.startswith("additional_chat_templates/") for name in sizes):
        return True
    if "chat_template.json" in sizes:
        return True
    return "tokenizer_config.json" in sizes and bool(_json(store, "tokenizer_config.json").get("chat_template"))


def _json(store: Store, path: str) -> Mapping[str, Any]:
    try:
        document = json.loads(store.get_bytes(path))
    except ArtifactError:
        raise
    except ValueError as error:
        raise NotAModel(f"has a {path} that is not JSON: {error!s:.120}") from None
    if not isinstance(document, Mapping):
        raise NotAModel(f"has a {path} that is not a JSON object")
    return document
