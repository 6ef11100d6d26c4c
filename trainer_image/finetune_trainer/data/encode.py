"""From a record to token ids and the mask of those the model learns to write.

The mask covers the assistant's turns (or the completion) and the end-of-turn token after each, nothing else. Text is
cut where a trained part begins, because that is where the prompt ends when the model is served; if the tokenizer
would merge characters across that place, the parts are encoded one by one, exactly as at inference.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from finetune_api.data import TrainOn
from finetune_trainer.data.read import DataError
from finetune_trainer.data.records import Conversation, Document, Labeled, Record, TextPair

_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")


class NotEncodable(ValueError):
    """A record that the chat template refuses; the text is the reason."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """Equal lengths: `targets[i]` says whether the loss is taken on predicting `ids[i]`."""

    ids: list[int]
    targets: list[bool]
    last_turn_only: bool = False
    """The chat template rewrites earlier turns, so only the last assistant turn is trained."""


class Encoder:
    """Encodes records with one tokenizer (a transformers `PreTrainedTokenizerBase`)."""

    def __init__(self, tokenizer: Any, train_on: TrainOn | None = None) -> None:
        self._all = train_on is TrainOn.ALL
        if tokenizer.eos_token_id is None:
            raise DataError(
                "spec.model.uri",
                "spec.model.uri: the tokenizer names no eos_token, so the model could not learn where to stop; "
                "set eos_token in tokenizer_config.json",
                reason="InvalidModel",
            )
        self._tokenizer = tokenizer
        self._eos: int = tokenizer.eos_token_id
        self._special = set(tokenizer.all_special_ids)
        template = tokenizer.chat_template if isinstance(tokenizer.chat_template, str) else ""
        self._has_template = tokenizer.chat_template is not None
        self._marks_generation = bool(_GENERATION.search(template))
        self._prefix = self._leading_specials()

    def encode(self, record: Record) -> Encoded:
        """Raises NotEncodable when the chat template refuses this record, DataError when there is none."""
        if isinstance(record, TextPair):
            ids, targets = self._segments([(record.prompt, self._all), (record.completion, True)])
            ids, targets = self._prefix + ids, [False] * len(self._prefix) + targets
            return Encoded(*self._ended(ids, targets))
        if isinstance(record, Document):
            ids, targets = self._segments([(record.text, True)])
            ids, targets = self._prefix + ids, [False] * len(self._prefix) + targets
            return Encoded(*self._ended(ids, targets))
        if isinstance(record, Labeled):
            # As everybody will ask the published model: the tokenizer's own beginning and end, no target to write.
            read = list(self._tokenizer(record.text)["input_ids"])
            return Encoded(read, [False] * len(read))
        if not isinstance(record, Conversation):
            raise TypeError(f"{type(record).__name__} has encodings of its own")
        if not self._has_template:
            raise DataError(
                "spec.model.uri",
                "spec.model.uri: the data holds chat messages, but the model's tokenizer has no chat template; add "
                "chat_template to the model directory, or write the data as Alpaca or PromptCompletion",
                reason="NoChatTemplate",
            )
        if self._all:
            ids, targets = self._segments([(self._render(_messages(record)), True)])
            return Encoded(*self._ended(ids, targets))
        every_assistant = all(t.trained == (t.role == "assistant") for t in record.turns)
        if self._marks_generation and every_assistant:
            return self._by_marks(record)
        return self._by_prefixes(record)

    def _leading_specials(self) -> list[int]:
        """What the tokenizer puts before a plain text (a BOS, for example)."""
        plain = self._tokenizer("a", add_special_tokens=False)["input_ids"]
        full = self._tokenizer("a")["input_ids"]
        for start in range(len(full)):
            if full[start : start + len(plain)] == plain:
                return list(full[:start])
        return []

    def _render(self, turns: list[dict[str, str]], *, prompt: bool = False) -> str:
        try:
            return str(self._tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=prompt))
        except Exception as error:
            raise NotEncodable(f"the model's chat template refuses these messages: {error}") from None

    def _by_marks(self, record: Conversation) -> Encoded:
        """Templates with {% generation %} say themselves what the assistant wrote."""
        try:
            encoded = self._tokenizer.apply_chat_template(
                _messages(record), tokenize=True, return_dict=True, return_assistant_tokens_mask=True
            )
        except Exception as error:
            raise NotEncodable(f"the model's chat template refuses these messages: {error}") from None
        ids, targets = list(encoded["input_ids"]), [bool(m) for m in encoded["assistant_masks"]]
        return Encoded(*self._ended(ids, targets))

    def _by_prefixes(self, record: Conversation) -> Encoded:
        """The text before a turn (with its generation prompt) and after it bound what was written in that turn."""
        messages = _messages(record)
        whole = self._render(messages)
        spans = [self._span(messages, index, whole) for index, turn in enumerate(record.turns) if turn.trained]
        last = spans[-1]
        if last is None:
            raise NotEncodable(
                "the model's chat template changes what comes before the assistant's turn when that turn is added, "
                "so the answer cannot be told apart from the prompt; use a template with {% generation %} marks"
            )
        whole_turns = [span for span in spans if span is not None]
        rewritten = len(whole_turns) < len(spans)
        segments: list[tuple[str, bool]] = []
        position = 0
        for start, end in [last] if rewritten else whole_turns:
            segments += [(whole[position:start], False), (whole[start:end], True)]
            position = end
        segments.append((whole[position:], False))
        ids, targets = self._segments([segment for segment in segments if segment[0]])
        return Encoded(*self._ended(ids, targets), last_turn_only=rewritten)

    def _span(self, messages: list[dict[str, str]], index: int, whole: str) -> tuple[int, int] | None:
        """Where turn `index` stands in the whole text; None when the template writes it differently there."""
        before, after = self._render(messages[:index], prompt=True), self._render(messages[: index + 1])
        if whole.startswith(after) and after.startswith(before):
            return len(before), len(after)
        return None

    def _segments(self, segments: list[tuple[str, bool]]) -> tuple[list[int], list[bool]]:
        if self._tokenizer.is_fast:
            joint = self._jointly(segments)
            if joint is not None:
                return joint
        ids: list[int] = []
        targets: list[bool] = []
        for text, trained in segments:
            part = self._tokenizer(text, add_special_tokens=False)["input_ids"]
            ids += part
            targets += [trained] * len(part)
        return ids, targets

    def _jointly(self, segments: list[tuple[str, bool]]) -> tuple[list[int], list[bool]] | None:
        """None when a token straddles the border of two segments."""
        encoded = self._tokenizer(
            "".join(text for text, _ in segments), add_special_tokens=False, return_offsets_mapping=True
        )
        ids, offsets = encoded["input_ids"], encoded["offset_mapping"]
        targets: list[bool] = []
        token, end = 0, 0
        for text, trained in segments:
            end += len(text)
            while token < len(ids) and offsets[token][1] <= end:
                targets.append(trained)
                token += 1
            if token < len(ids) and offsets[token][0] < end:
                return None
        return list(ids), targets

    def _ended(self, ids: list[int], targets: list[bool]) -> tuple[list[int], list[bool]]:
        """Each trained part ends with its end token: what a template writes after it (a newline) is not trained, and
        where it writes none at the very end the tokenizer's eos is appended."""
        start = None
        for index in range(len(ids) + 1):
            inside = index < len(ids) and targets[index]
            if inside and start is None:
                start = index
            elif not inside and start is not None:
                last = max((i for i in range(start, index) if ids[i] in self._special), default=None)
                blank = last is not None and not self._tokenizer.decode(ids[last + 1 : index]).strip()
                if last is not None and blank:
                    targets[last + 1 : index] = [False] * (index - last - 1)
                start = None
        if targets and targets[-1] and ids[-1] not in self._special:
            return [*ids, self._eos], [*targets, True]
        return ids, targets


def _messages(record: Conversation) -> list[dict[str, str]]:
    return [{"role": turn.role, "content": turn.content} for turn in record.turns]
