"""Run while the image is built: vLLM loads, and what it looks up about a model class is there before the first start.

vLLM inspects an architecture in a further interpreter, lest a GPU be touched, and keeps the answer in its cache folder,
which a pod has fresh at every start: eight seconds of a core each time without this. Here one interpreter does for all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vllm.model_executor.models import registry

ARCHITECTURES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")


def in_this_process(function: Callable[[], Any]) -> Any:
    return function()


def main() -> None:
    registry._run_in_subprocess = in_this_process
    for architecture in ARCHITECTURES:
        registry.ModelRegistry.models[architecture].inspect_model_cls()
        print("inspected", architecture)


if __name__ == "__main__":
    main()
