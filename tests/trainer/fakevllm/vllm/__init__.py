"""A stand-in with the surface of vLLM 0.32 that `served_engine.py` touches; no engine behind it.

It answers with the reference itself, moved by `FAKE_SHIFT` nats, and misbehaves as `FAKE_FAULT` says. That the real
package has this surface is proven where it runs: in the publish pods of the cluster tests.
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

__version__ = "0.0-fake"
FAULT = os.environ.get("FAKE_FAULT", "")


class SamplingParams:
    def __init__(
        self,
        *,
        temperature: float,
        max_tokens: int,
        prompt_logprobs: int,
        logprobs: int,
        ignore_eos: bool,
        detokenize: bool,
    ) -> None:
        self.max_tokens = max_tokens


class Tokenizer:
    """Cuts as the reference does, except for `FAKE_FAULT=tokens`."""

    def __init__(self, prompts: list[Any]) -> None:
        self._prompts = prompts

    def apply_chat_template(self, messages: list[Any], *, tokenize: bool, add_generation_prompt: bool) -> str:
        assert add_generation_prompt
        assert not tokenize
        return json.dumps(messages)

    def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
        for prompt in self._prompts:
            if text in (prompt.get("text"), json.dumps(prompt.get("messages"))):
                ids = list(prompt["tokenIds"])
                return {"input_ids": [*ids[:-1], ids[-1] + 1] if FAULT == "tokens" else ids}
        raise AssertionError(f"asked about a text that is no prompt: {text!r}")


class LLM:
    def __init__(self, **options: Any) -> None:
        self.options = options
        Path(options["model"]).parent.joinpath("options.json").write_text(json.dumps(options))
        if FAULT == "hang":
            print("still loading", flush=True)
            time.sleep(600)
        if FAULT == "segv":
            print("about to crash", flush=True)
            os.kill(os.getpid(), signal.SIGSEGV)
        if FAULT == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if FAULT.startswith("raise:"):
            raise RuntimeError(FAULT.removeprefix("raise:"))
        reference = json.loads((Path(options["model"]) / "served-check.json").read_text())
        self._prompts = reference["prompts"]
        self.llm_engine = SimpleNamespace(model_config=SimpleNamespace(dtype=f"torch.{options['dtype']}"))

    def get_tokenizer(self) -> Tokenizer:
        return Tokenizer(self._prompts)

    def generate(self, asked: list[Any], params: SamplingParams, *, use_tqdm: bool) -> list[Any]:
        return [
            self._one(prompt, one["prompt_token_ids"], params) for prompt, one in zip(self._prompts, asked, strict=True)
        ]

    def _one(self, prompt: Any, ids: list[int], params: SamplingParams) -> Any:
        shift = float("nan") if FAULT == "nan" else float(os.environ.get("FAKE_SHIFT", "0"))
        assert ids == prompt["tokenIds"]
        told = [None]
        told += [{i: SimpleNamespace(logprob=p + shift)} for i, p in zip(ids[1:], prompt["logprobs"], strict=True)]
        # With ignore_eos the engine writes on after the reference has ended.
        written = (prompt["continuation"] + [0] * params.max_tokens)[: params.max_tokens]
        known = (prompt["continuationLogprobs"] + [-9.0] * params.max_tokens)[: params.max_tokens]
        logprobs = [{i: SimpleNamespace(logprob=p + shift)} for i, p in zip(written, known, strict=True)]
        return SimpleNamespace(
            prompt_token_ids=ids,
            prompt_logprobs=told,
            outputs=[SimpleNamespace(token_ids=tuple(written), logprobs=logprobs)],
        )
