"""Run while the image is built: vLLM loads, and what it looks up about a model class is there before the first start.

vLLM inspects an architecture in a further interpreter and keeps the answer in its cache folder, which a pod has fresh
at every start: ten seconds each time without this.
"""

from __future__ import annotations

from vllm.model_executor.models.registry import ModelRegistry

ARCHITECTURES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")


def main() -> None:
    for architecture in ARCHITECTURES:
        ModelRegistry.models[architecture].inspect_model_cls()
        print("inspected", architecture)


if __name__ == "__main__":
    main()
