"""The trainer's own log-probabilities, published with the model, beside the candidate's.

The engine is asked about token ids, so that nothing but the model and its numerics can differ; what its tokenizer and
its chat template make of the same texts is compared as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pydantic import ValidationError

from finetune_api.exitcodes import ExitCode
from finetune_api.manifests import ModelManifest
from finetune_api.served import SERVED_CHECK, ReferencePrompt, ServedAnswer, ServedReference
from finetune_artifacts import Store, digest_bytes
from finetune_trainer.common.errors import RunError
from finetune_trainer.publish.compare import Comparison, compare
from finetune_trainer.serve.answers import Choice, Completion
from finetune_trainer.serve.asking import Asking
from finetune_trainer.serve.engine import Engine, EngineError, Refused
from finetune_trainer.serve.prompts import failed
from finetune_trainer.serve.reasons import Reason


def read_reference(store: Store, manifest: ModelManifest) -> ServedReference | None:
    """None when the model was published without one. Raises RunError (66) when it was changed, ArtifactError."""
    record = next((file for file in manifest.files if file.path == SERVED_CHECK), None)
    if record is None:
        return None
    uri, content = store.uri_of(SERVED_CHECK), store.get_bytes(SERVED_CHECK)
    found = digest_bytes(content, "sha256")
    if found != record.digest:
        raise RunError(
            ExitCode.DATA_INVALID,
            f"{uri}: expected {record.digest}, found {found}; restore the file, or publish the model again",
            reason=Reason.FILE_TAMPERED,
        )
    try:
        return ServedReference.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise RunError(
            ExitCode.DATA_INVALID,
            f"{uri}: {field}: {first['msg']}; publish the model again",
            reason=Reason.MODEL_INVALID,
        ) from None


def fitting(reference: ServedReference, max_model_len: int | None) -> ServedReference:
    """Cut to what the engine has room for: a prefix of a prompt has the same log-probabilities."""
    if max_model_len is None:
        return reference
    return reference.model_copy(update={"prompts": [_fitting(prompt, max_model_len) for prompt in reference.prompts]})


def _fitting(prompt: ReferencePrompt, room: int) -> ReferencePrompt:
    written = prompt.continuation[: max(0, room - len(prompt.token_ids))]
    ids = prompt.token_ids[: max(2, room - 1)]
    return prompt.model_copy(
        update={
            "token_ids": ids,
            "logprobs": prompt.logprobs[: len(ids) - 1],
            "continuation": written,
            "continuation_logprobs": prompt.continuation_logprobs[: len(written)],
        }
    )


def measure(ask: Asking, reference: ServedReference) -> Comparison:
    """Raises RunError (76) when the engine does not answer with log-probabilities that are numbers."""
    answers = [_ask(ask, prompt) for prompt in reference.prompts]
    try:
        return compare(reference, answers)
    except ValueError as error:
        raise failed(f"{ask.who} answered the reference prompts with something else: {error}") from None


def require_close(found: Comparison, limit: str) -> str:
    """In words. Raises RunError (76) when the mean difference per token is above `limit`, or the tokens are others."""
    close = found.mean <= float(limit)
    words = (
        f"mean |logprob delta| to the trainer {found.mean:.2g} {'<=' if close else '>'} {limit} over {found.tokens} "
        f"tokens (max {found.max:.2g} in {found.worst})"
    )
    if not close:
        raise failed(f"{words}: the engine computes something else than was trained", Reason.LOGPROBS_DIFFER)
    if found.retokenized is not None:
        raise failed(f"{words}; {found.retokenized}", Reason.LOGPROBS_DIFFER)
    return words


def _ask(ask: Asking, prompt: ReferencePrompt) -> ServedAnswer:
    tokens = max(1, len(prompt.continuation))

    def complete(engine: Engine, timeout: float) -> Completion:
        return engine.complete(
            timeout,
            prompt.token_ids,
            max_tokens=tokens,
            prompt_logprobs=0,
            logprobs=0,
            ignore_eos=True,
            return_token_ids=True,
        )

    try:
        choice = ask(complete, tokens=tokens).choice
    except Refused as error:
        raise failed(f"a reference prompt of {len(prompt.token_ids)} tokens: {ask.who} {error}") from None
    try:
        return ServedAnswer(
            logprobs=_prompt_logprobs(choice, prompt.token_ids),
            continuation=(choice.token_ids or [])[: len(prompt.continuation)],
            continuation_logprobs=_written(choice, len(prompt.continuation)),
            token_ids=_own_tokens(ask, prompt),
        )
    except ValueError as error:
        raise failed(f"a reference prompt of {len(prompt.token_ids)} tokens: {ask.who} {error}") from None


def _prompt_logprobs(choice: Choice, ids: Sequence[int]) -> list[float]:
    entries = choice.prompt_logprobs or []
    if len(entries) != len(ids):
        raise ValueError(f"answered with {len(entries)} prompt logprobs to {len(ids)} tokens")
    found = []
    for token, entry in zip(ids[1:], entries[1:], strict=True):
        if entry is None or token not in entry:
            raise ValueError(f"gave no log-probability for token {token}")
        found.append(_finite(entry[token].logprob))
    return found


def _written(choice: Choice, count: int) -> list[float]:
    values = choice.logprobs.token_logprobs[:count] if choice.logprobs and choice.token_ids else []
    return [_finite(value) for value in values]


def _finite(value: float | None) -> float:
    if value is None or not math.isfinite(value):
        raise ValueError(f"gave a token the log-probability {value}; its weights are broken")
    return value


def _own_tokens(ask: Asking, prompt: ReferencePrompt) -> list[int] | None:
    """What the engine's tokenizer makes of the prompt; None where it does not tell."""
    what: dict[str, object] = (
        {"prompt": prompt.text}
        if prompt.text is not None
        else {"messages": [message.to_wire() for message in prompt.messages or []]}
    )

    def tokenize(engine: Engine, timeout: float) -> list[int] | None:
        try:
            return engine.tokenize(timeout, **what)
        except EngineError:
            return None

    return ask(tokenize)
