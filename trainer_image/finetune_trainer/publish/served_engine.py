"""Loads the published folder with vLLM and writes down what the engine answers to the reference prompts.

Runs in the serving image as a child of `served_check.py`: standard library and vLLM only.

    python3 served_engine.py MODEL REFERENCE RESULT FAILURE -- [ENGINE ARGUMENTS...]

RESULT holds the answers, `error` when the model is to blame, or `skipped` where this image has no device to run on;
FAILURE what is wrong with the machine or the settings.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

DONE, INVALID_SPEC, FAILED, OUT_OF_MEMORY, DEVICE = 0, 64, 70, 71, 75
CPU_CACHE_BYTES = 256 << 20
_MEMORY = ("out of memory", "can't allocate memory", "std::bad_alloc", "free memory on device", "available memory")
_DEVICE = ("cuda error", "cublas", "cudnn", "nccl", "nvidia driver", "no cuda gpus", "hip error", "ecc error")
_ENGINE = ("engine core", "enginecore", "enginedead", "workerproc", "engine process")
_NO_PLATFORM = ("failed to infer device type",)


class Refused(Exception):
    """Ends the check with `code`; not the model's fault."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code, self.reason, self.message = code, reason, message


def measure(model: Path, reference: Path, result: Path, failure: Path, *, engine_args: Sequence[str]) -> int:
    prompts = json.loads(reference.read_text())["prompts"]
    try:
        answers = ask(model, prompts, engine_args)
    except Refused as refused:
        write_json(failure, {"code": refused.code, "reason": refused.reason, "message": refused.message})
        return refused.code
    write_json(result, {"format": 1, **answers})
    return DONE


def ask(model: Path, prompts: Sequence[Mapping[str, Any]], engine_args: Sequence[str]) -> dict[str, Any]:
    """What the engine answers, or `error`: the model's fault, in words. Raises Refused for everything else."""
    started = time.monotonic()
    say("importing vLLM")
    try:
        import vllm
        from vllm import LLM, SamplingParams
    except ImportError as error:
        raise Refused(
            INVALID_SPEC,
            "NotAServingImage",
            f"the image's python3 has no usable vLLM ({error}); set spec.publish.servedCheck.image to a vLLM image, or "
            "spec.publish.servedCheck.enabled: false",
        ) from None
    about = {"engine": f"vllm {vllm.__version__}"}
    new_tokens = max(1, *(len(prompt.get("continuation", ())) for prompt in prompts))
    longest = max(len(prompt["tokenIds"]) for prompt in prompts) + new_tokens
    say("loading the model", **about)
    try:
        llm = LLM(**engine_options(model, longest, engine_args))
        about["dtype"] = dtype_of(llm)
        say("loaded", seconds=round(time.monotonic() - started, 1), **about)
        token_ids = [own_tokens(llm.get_tokenizer(), prompt) for prompt in prompts]
        greedy = SamplingParams(
            temperature=0.0, max_tokens=new_tokens, prompt_logprobs=0, logprobs=0, ignore_eos=True, detokenize=False
        )
        asked = [{"prompt_token_ids": list(prompt["tokenIds"])} for prompt in prompts]
        outputs = llm.generate(asked, greedy, use_tqdm=False)
        answers = [answer(output) | {"tokenIds": ids} for output, ids in zip(outputs, token_ids, strict=True)]
    except Exception as error:
        if any(mark in str(error).lower() for mark in _NO_PLATFORM):
            return about | {"skipped": f"the serving image finds no device it can run on ({type(error).__name__})"}
        return about | {"error": words_of(error)}
    say("answered", seconds=round(time.monotonic() - started, 1), prompts=len(answers))
    return about | {"seconds": round(time.monotonic() - started, 2), "answers": answers}


def engine_options(model: Path, longest: int, engine_args: Sequence[str]) -> dict[str, Any]:
    """As `vllm serve` would read the arguments, over defaults that load fast: no graphs, a short context."""
    from vllm.engine.arg_utils import EngineArgs

    try:
        from vllm.utils.argparse_utils import FlexibleArgumentParser
    except ImportError:  # vLLM before 0.12
        from vllm.utils import FlexibleArgumentParser

    def refuse(message: str) -> NoReturn:
        raise Refused(INVALID_SPEC, "InvalidSpec", f"spec.publish.servedCheck.args: {message}")

    parser = EngineArgs.add_cli_args(FlexibleArgumentParser(add_help=False))
    parser.error = refuse
    defaults: dict[str, Any] = {"enforce_eager": True, "max_model_len": longest, "seed": 0, "disable_log_stats": True}
    if on_cpu():
        # Sixteen bits are emulated or missing on many CPUs; by itself the cache takes a share of the node's memory.
        defaults["dtype"] = "float32"
        if hasattr(EngineArgs, "kv_cache_memory_bytes"):
            defaults["kv_cache_memory_bytes"] = CPU_CACHE_BYTES
    parser.set_defaults(model=str(model), **defaults)
    options = vars(parser.parse_args(list(engine_args)))
    if options["model"] != str(model):
        refuse("--model may not be set; the model is the one that was trained")
    return dict(options)


def on_cpu() -> bool:
    from vllm.platforms import current_platform

    return bool(current_platform.is_cpu())


def dtype_of(llm: Any) -> str:
    config = getattr(getattr(llm, "llm_engine", None), "model_config", None)
    return str(getattr(config, "dtype", "unknown")).removeprefix("torch.")


def own_tokens(tokenizer: Any, prompt: Mapping[str, Any]) -> list[int]:
    """What this image's tokenizer makes of the prompt; a newer or older one may cut it differently."""
    if prompt.get("text") is not None:
        return [int(token) for token in tokenizer(prompt["text"])["input_ids"]]
    text = tokenizer.apply_chat_template(prompt["messages"], tokenize=False, add_generation_prompt=True)
    return [int(token) for token in tokenizer(text, add_special_tokens=False)["input_ids"]]


def answer(output: Any) -> dict[str, Any]:
    prompt = zip(output.prompt_token_ids[1:], output.prompt_logprobs[1:], strict=True)
    written = output.outputs[0]
    continuation = [int(token) for token in written.token_ids]
    return {
        "logprobs": [finite(entry[token].logprob) for token, entry in prompt],
        "continuation": continuation,
        "continuationLogprobs": [
            finite(entry[token].logprob) for token, entry in zip(continuation, written.logprobs, strict=True)
        ],
    }


def finite(logprob: float) -> float:
    if not math.isfinite(logprob):
        raise ValueError(f"the engine gave a token the log-probability {logprob}")
    return float(logprob)


def words_of(error: Exception) -> str:
    """Of an error that the model may be to blame for. Raises Refused for one of the machine or the settings."""
    if isinstance(error, Refused):
        raise error
    text = " ".join(str(error).split())[:400]
    words, low = f"{type(error).__name__}: {text}", f"{type(error).__name__} {text}".lower()
    if isinstance(error, MemoryError) or "outofmemory" in low or any(mark in low for mark in _MEMORY):
        advice = (
            "raise spec.publish.servedCheck.resources, or set --gpu-memory-utilization in spec.publish.servedCheck.args"
        )
        raise Refused(OUT_OF_MEMORY, "OutOfMemory", f"out of memory: {text}; {advice}") from None
    if any(mark in low for mark in _DEVICE):
        raise Refused(DEVICE, "Device", f"the device failed: {words}") from None
    if any(mark in low for mark in _ENGINE):
        raise Refused(FAILED, "EngineCrashed", f"the engine died: {words}") from None
    return words


def say(message: str, **fields: Any) -> None:
    print(json.dumps({"message": message, "stage": "ServedCheck", **fields}), flush=True)


def write_json(path: Path, document: Any) -> None:
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(json.dumps(document, allow_nan=False))
    temporary.replace(path)


if __name__ == "__main__":
    code = measure(*(Path(argument) for argument in sys.argv[1:5]), engine_args=sys.argv[6:])
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads of the engine must not keep the container alive.
    os._exit(code)
