"""The ground of the contract: how a Python type becomes a field of the CRD.

Every type here carries the bounds the API server needs: a CEL rule is refused
when its cost cannot be estimated, and the estimate needs a limit on each list,
map and string below it.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from finetune_api.duration import parse_duration


class ApiModel(BaseModel):
    """camelCase outside, snake_case inside; unknown fields are refused; instances are immutable."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        extra="forbid",
        frozen=True,
        protected_namespaces=(),
        use_attribute_docstrings=True,
    )

    def to_wire(self) -> dict[str, Any]:
        """The JSON form: camelCase, absent fields left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class WireModel(ApiModel):
    """What pods tell the operator. Unknown fields are ignored, so that an older operator reads a newer trainer."""

    model_config = ConfigDict(extra="ignore")


def cel(rule: str, message: str, field: str | None = None) -> dict[str, str]:
    """One `x-kubernetes-validations` entry, answered by the API server at admission. `field` is what it names."""
    return {"rule": rule, "message": message} | ({"fieldPath": field} if field else {})


def rules(*entries: dict[str, str]) -> dict[str, Any]:
    """CEL rules as a pydantic `json_schema_extra`."""
    return {"x-kubernetes-validations": list(entries)}


def _positive_duration(text: str) -> str:
    parse_duration(text)
    return text


AUTO = "Auto"
NAME_PATTERN = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"
NAME_MAX_LENGTH = 40

ObjectName = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")]
_STORAGE = (
    r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^\s]*)?|pvc://[a-z0-9]([-a-z0-9.]*[a-z0-9])?(/[^\s]*)?|file:///[^\s]*"
)
_HUB = r"hf://(datasets/)?[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9_.-]+(@[A-Za-z0-9_.-]+)?(/[^\s]*)?"
_STORAGE_WORDS = "s3://bucket/path, pvc://claim/path (same namespace) or file:///path (local runs only)"
Uri = Annotated[
    str,
    Field(min_length=6, max_length=1024, pattern=f"^({_STORAGE})$", description=f"{_STORAGE_WORDS}."),
]
SourceUri = Annotated[
    str,
    Field(
        min_length=6,
        max_length=1024,
        pattern=f"^({_STORAGE}|{_HUB})$",
        description=f"{_STORAGE_WORDS}; hf://organisation/name[@revision] for a model of the Hugging Face Hub, "
        "hf://datasets/organisation/name[@revision][/path] for data. A branch is read at the commit that preflight "
        "found.",
    ),
]
"""What is only read. Elsewhere than in a Hub everything can be written, too."""
Duration = Annotated[
    str,
    AfterValidator(_positive_duration),
    Field(
        min_length=2,
        max_length=32,
        pattern=r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$",
        description="A Go duration such as 90s, 15m or 1h30m.",
    ),
]
IntervalOrAuto = Annotated[
    str,
    AfterValidator(lambda text: text if text == AUTO else _positive_duration(text)),
    Field(min_length=2, max_length=32, pattern=r"^(Auto|([0-9]+(\.[0-9]+)?(ms|s|m|h))+)$"),
]
Quantity = Annotated[
    int | str,
    Field(
        json_schema_extra={
            "x-kubernetes-int-or-string": True,
            "maxLength": 32,
            "pattern": r"^[0-9]+(\.[0-9]+)?([KMGTPE]i?|[mk])?$",
        }
    ),
]
DECIMAL_PATTERN = r"^[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]{1,3})?$"
Decimal = Annotated[str, Field(min_length=1, max_length=24, pattern=DECIMAL_PATTERN)]
PositiveDecimal = Annotated[
    str, Field(min_length=1, max_length=24, pattern=r"^(0\.[0-9]*[1-9][0-9]*|[1-9][0-9]*(\.[0-9]+)?)$")
]
SignedDecimal = Annotated[str, Field(min_length=1, max_length=24, pattern="^-?" + DECIMAL_PATTERN[1:])]
LabelMap = Annotated[
    dict[
        Annotated[str, Field(max_length=316)],
        Annotated[str, Field(max_length=63)],
    ],
    Field(max_length=64),
]
