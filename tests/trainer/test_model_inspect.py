"""Directories that are models, and directories that only look like one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetune_artifacts import open_store
from finetune_trainer.model.inspect import Incomplete, ModelInfo, NotAModel, inspect_model

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "vocab_size": 32,
}


def weights(shapes: dict[str, list[int]], *, cut: int = 0) -> bytes:
    """A safetensors file of zeros in BF16."""
    header, position = {}, 0
    for name, shape in shapes.items():
        size = 2
        for extent in shape:
            size *= extent
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [position, position + size]}
        position += size
    text = json.dumps(header | {"__metadata__": {"format": "pt"}}).encode()
    return len(text).to_bytes(8, "little") + text + bytes(position - cut)


def good(root: Path) -> None:
    (root / "config.json").write_text(json.dumps(CONFIG))
    (root / "model.safetensors").write_bytes(weights({"a.weight": [4, 2], "b.weight": [3]}))
    (root / "tokenizer.json").write_text("{}")


def sharded(root: Path) -> None:
    good(root)
    (root / "model.safetensors").unlink()
    shards = {"model-1.safetensors": {"a.weight": [4, 2]}, "model-2.safetensors": {"b.weight": [3]}}
    for name, shapes in shards.items():
        (root / name).write_bytes(weights(shapes))
    weight_map = {tensor: name for name, shapes in shards.items() for tensor in shapes}
    (root / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def inspect(root: Path) -> ModelInfo:
    store = open_store(f"file://{root}")
    return inspect_model(store, list(store.list()))


@pytest.mark.parametrize("make", [good, sharded])
def test_a_model_is_measured_from_its_headers(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path)
    model = inspect(tmp_path)
    assert model.architecture == "LlamaForCausalLM"
    assert (model.parameters, model.bytes) == (11, 22)
    assert {t.name: t.shape for t in model.tensors} == {"a.weight": (4, 2), "b.weight": (3,)}
    assert not model.has_chat_template


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("chat_template.jinja", "x", True),
        ("tokenizer_config.json", '{"chat_template": "x"}', True),
        ("tokenizer_config.json", '{"chat_template": null}', False),
    ],
)
def test_a_chat_template_is_found_where_it_may_stand(tmp_path: Path, name: str, content: str, expected: bool) -> None:
    good(tmp_path)
    (tmp_path / name).write_text(content)
    assert inspect(tmp_path).has_chat_template is expected


def config(**changes: Any) -> Callable[[Path], None]:
    return lambda root: (root / "config.json").write_text(json.dumps(CONFIG | changes)) and None


def rename(old: str, new: str) -> Callable[[Path], None]:
    return lambda root: (root / old).rename(root / new) and None


def write(name: str, content: bytes) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(content)

    return damage


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (rename("config.json", "other.json"), "has no config.json; it holds 3 files"),
        (rename("config.json", "adapter_config.json"), "it is a LoRA adapter, not a base model"),
        (rename("model.safetensors", "pytorch_model.bin"), "only as pytorch_model.bin, a pickle"),
        (rename("model.safetensors", "model.gguf"), "GGUF files cannot be trained"),
        (rename("tokenizer.json", "notes.txt"), "has no tokenizer"),
        (write("config.json", b"{"), "has a config.json that is not JSON"),
        (write("config.json", b"[]"), "has a config.json that is not a JSON object"),
        (config(architectures=[]), "without `architectures`"),
        (config(architectures=["BertForMaskedLM"]), "is a BertForMaskedLM; SFT needs a causal language model"),
        (config(quantization_config={"quant_method": "gptq"}), "is quantized with gptq"),
        (write("model.safetensors", b"<html>Sign in</html>"), "it is truncated or no safetensors file"),
        (write("model.safetensors", b""), "it has 0 bytes"),
        (write("model.safetensors", weights({"a": [64]}, cut=8)), "promises 128 bytes of tensors, the file holds 120"),
        (write("model.safetensors", (4).to_bytes(8, "little") + b"nope"), "its header is not JSON"),
        (
            write("model.safetensors", (24).to_bytes(8, "little") + b'{"a": {"dtype": "BF16"}}'),
            "its header's entry 'a' is malformed",
        ),
    ],
)
def test_what_is_no_model_says_why(tmp_path: Path, damage: Callable[[Path], None], words: str) -> None:
    good(tmp_path)
    damage(tmp_path)
    with pytest.raises(NotAModel) as caught:
        inspect(tmp_path)
    assert words in str(caught.value)


def test_a_model_one_level_deeper_is_pointed_at(tmp_path: Path) -> None:
    (tmp_path / "v2").mkdir()
    good(tmp_path / "v2")
    with pytest.raises(NotAModel, match="there is one in 'v2' below it"):
        inspect(tmp_path)


def test_a_missing_shard_may_still_arrive(tmp_path: Path) -> None:
    sharded(tmp_path)
    (tmp_path / "model-2.safetensors").unlink()
    with pytest.raises(Incomplete, match=r"names 1 files that are not there: model-2.safetensors"):
        inspect(tmp_path)


def test_an_index_of_another_model_is_refused(tmp_path: Path) -> None:
    sharded(tmp_path)
    (tmp_path / "model-2.safetensors").write_bytes(weights({"c.weight": [3]}))
    with pytest.raises(NotAModel, match=r"1 tensors are not where it says, 'b.weight' for example"):
        inspect(tmp_path)
