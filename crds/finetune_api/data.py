"""`FineTuneJob.spec.data`: the records to train on, and how they become rows of tokens."""

from __future__ import annotations

from enum import StrEnum
from string import Formatter
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field

from finetune_api.base import ApiModel, Decimal, cel, rules
from finetune_api.curriculum import DATA_RULES, Curriculum
from finetune_api.datafilters import Balance, Dedup, Filter
from finetune_api.storage import Stored


class DataFormat(StrEnum):
    AUTO = "Auto"
    MESSAGES = "Messages"
    SHAREGPT = "ShareGPT"
    ALPACA = "Alpaca"
    PROMPT_COMPLETION = "PromptCompletion"
    TEXT = "Text"
    PREFERENCE = "Preference"
    LABELED = "Labeled"


class TextUnit(StrEnum):
    DOCUMENT = "Document"
    PARAGRAPH = "Paragraph"
    LINE = "Line"


ColumnName = Annotated[str, Field(min_length=1, max_length=256)]


class Columns(ApiModel):
    """What the fields of a record are called in the files: `prompt: question` reads the prompt from `question`."""

    messages: ColumnName | None = None
    conversations: ColumnName | None = None
    instruction: ColumnName | None = None
    input: ColumnName | None = None
    output: ColumnName | None = None
    system: ColumnName | None = None
    prompt: ColumnName | None = None
    completion: ColumnName | None = None
    text: ColumnName | None = None
    chosen: ColumnName | None = None
    rejected: ColumnName | None = None
    label: ColumnName | None = None


def _named_fields_only(text: str) -> str:
    try:
        parts = list(Formatter().parse(text))
    except ValueError as error:
        raise ValueError(f"not a template: {error}; write a brace that is text twice, {{{{ or }}}}") from None
    for _literal, name, spec, conversion in parts:
        if name is None:
            continue
        if not name or not name.replace("-", "_").replace(" ", "_").isidentifier() or spec or conversion:
            raise ValueError(
                f"{{{name}}} is not a field; write its name alone between braces, such as {{question}}, "
                "and a brace that is text twice"
            )
    return text


TemplateText = Annotated[str, AfterValidator(_named_fields_only), Field(min_length=1, max_length=8192)]


class Template(ApiModel):
    """Makes records from columns of any name: `{question}` stands for the column of that name, `{{` for a brace."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            cel("has(self.user) == has(self.assistant)", "user and assistant belong together: set both or neither"),
            cel("has(self.prompt) == has(self.completion)", "prompt and completion belong together: set both or none"),
            cel("!has(self.system) || has(self.user)", "system goes with user and assistant"),
            cel(
                "(has(self.user) ? 1 : 0) + (has(self.prompt) ? 1 : 0) + (has(self.text) ? 1 : 0) == 1",
                "set user and assistant (a chat), or prompt and completion, or text: one of the three",
            ),
        )
    )

    system: TemplateText | None = None
    user: TemplateText | None = None
    assistant: TemplateText | None = None
    prompt: TemplateText | None = None
    completion: TemplateText | None = None
    text: TemplateText | None = None


class DataSource(Stored):
    """One file, files that `*` in the last name stands for (data/train-*.parquet), or a prefix below which all files of
    one kind are read: *.jsonl where there are any, else Parquet, else JSON, else CSV, else text."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            cel(
                "!has(self.template) || !has(self.format) || self.format == 'Auto'",
                "a template makes the records, so format has to be left out (or Auto)",
            ),
            cel(
                "!self.uri.startsWith('hf://') || self.uri.startsWith('hf://datasets/')",
                "data of the Hub is hf://datasets/organisation/name; without datasets/ it is a model",
            ),
        )
    )

    format: DataFormat = DataFormat.AUTO
    columns: Columns | None = None
    template: Template | None = None
    text_unit: (
        Annotated[TextUnit, Field(description="What one record of a .txt file is. Unset: the whole file.")] | None
    ) = None
    limit: Annotated[int, Field(ge=1, description="Read at most this many records.")] | None = None


def _weight(text: str) -> str:
    if not 0 < float(text) <= MAX_WEIGHT:
        raise ValueError(f"a weight is more than 0 and at most {MAX_WEIGHT}")
    return text


MAX_WEIGHT = 100


class TrainSource(DataSource):
    weight: (
        Annotated[
            Decimal,
            AfterValidator(_weight),
            Field(
                description="How often its training records come in an epoch. 2: each twice; 0.5: half of them, "
                "always the same ones. Unset: once."
            ),
        ]
        | None
    ) = None


class Validation(ApiModel):
    """Held-out records: a share of the training records by content hash, or sources of their own."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            cel("!(has(self.percent) && has(self.sources))", "set either percent or sources, not both")
        )
    )

    percent: Annotated[int, Field(ge=0, le=50)] | None = None
    sources: Annotated[list[DataSource], Field(min_length=1, max_length=16)] | None = None


class Overflow(StrEnum):
    TRUNCATE = "Truncate"
    SPLIT = "Split"
    DROP = "Drop"
    ERROR = "Error"


class TrainOn(StrEnum):
    ASSISTANT = "Assistant"
    COMPLETION = "Completion"
    ALL = "All"


class Reasoning(StrEnum):
    KEEP = "Keep"
    STRIP = "Strip"


class Data(ApiModel):
    model_config = ConfigDict(json_schema_extra=rules(*DATA_RULES))

    train: Annotated[list[TrainSource], Field(min_length=1, max_length=64)]
    validation: Validation = Validation()
    max_length: Annotated[int, Field(ge=8, le=1_048_576, description="Tokens per record.")] = 2048
    on_overflow: Annotated[
        Overflow,
        Field(
            description="What happens to a record longer than maxLength. "
            "A record whose targets would be cut off entirely is dropped and counted. "
            "Split makes records of the parts, which is meant for Text."
        ),
    ] = Overflow.TRUNCATE
    packing: (
        Annotated[
            bool,
            Field(
                description="Whether short records share rows of maxLength tokens, each attended to by itself; "
                "globalBatchSize then counts rows. Unset: true for model types known to keep records apart, "
                "and a run that has a checkpoint goes on as it began."
            ),
        ]
        | None
    ) = None
    train_on: (
        Annotated[
            TrainOn,
            Field(
                description="What of a record is learned. Assistant (also when unset): every turn of the assistant, or "
                "the completion. Completion: its last turn alone. All: every token, the prompt's too."
            ),
        ]
        | None
    ) = None
    reasoning: (
        Annotated[
            Reasoning,
            Field(description="Strip takes <think>…</think> out of what the model learns to say. Unset: Keep."),
        ]
        | None
    ) = None
    dedup: Annotated[Dedup, Field(description="Unset: duplicates are kept. They never straddle the split.")] | None = (
        None
    )
    filters: Annotated[list[Filter], Field(min_length=1, max_length=16, description="Applied in order.")] | None = None
    balance: Balance | None = None
    curriculum: (
        Annotated[
            Curriculum,
            Field(description="From easy records to hard ones; they do not share rows then. Unset: shuffled."),
        ]
        | None
    ) = None
    max_bad_records: Annotated[int, Field(ge=0, description="Malformed records to skip before the job fails.")] = 0
