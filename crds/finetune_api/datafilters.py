"""`FineTuneJob.spec.data.filters` and `dedup`: which records are left out before any is trained on."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from finetune_api.base import ApiModel, cel, rules


class FilterType(StrEnum):
    LENGTH = "Length"
    HTML = "HTML"
    CONTROL_CHARACTERS = "ControlCharacters"
    PII = "PII"
    QUALITY = "Quality"


class FilterAction(StrEnum):
    DROP = "Drop"
    CLEAN = "Clean"


class PiiKind(StrEnum):
    EMAIL = "Email"
    PHONE = "Phone"
    CREDIT_CARD = "CreditCard"
    IBAN = "IBAN"
    IP_ADDRESS = "IPAddress"


class LengthFilter(ApiModel):
    """In characters of all texts of a record together."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            cel("has(self.minCharacters) || has(self.maxCharacters)", "set minCharacters, maxCharacters or both")
        )
    )

    min_characters: Annotated[int, Field(ge=1)] | None = None
    max_characters: Annotated[int, Field(ge=1)] | None = None


class PiiFilter(ApiModel):
    kinds: Annotated[list[PiiKind], Field(min_length=1, max_length=8, description="Unset: all of them.")] | None = None


class QualityFilter(ApiModel):
    """Of the text that is trained; what is not set is not looked at."""

    min_words: Annotated[int, Field(ge=1)] | None = None
    min_letters_percent: (
        Annotated[int, Field(ge=1, le=100, description="Letters among the characters that are no white space.")] | None
    ) = None
    max_repeated_lines_percent: (
        Annotated[int, Field(ge=0, le=99, description="Lines that stood before, among all lines.")] | None
    ) = None


class Filter(ApiModel):
    """Drop leaves the record out; Clean takes out what was found (Mask for PII: `[EMAIL]` stands in its place)."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            cel("has(self.length) == (self.type == 'Length')", "length is set for the type Length, and for no other"),
            cel("!has(self.pii) || self.type == 'PII'", "pii is set for the type PII only"),
            cel(
                "has(self.quality) == (self.type == 'Quality')",
                "quality is set for the type Quality, and for no other",
            ),
            cel(
                "!has(self.action) || self.action == 'Drop' || self.type in ['HTML', 'ControlCharacters', 'PII']",
                "there is nothing to clean in a record of the wrong length or quality; use Drop",
            ),
        )
    )

    type: FilterType
    action: FilterAction = FilterAction.DROP
    length: LengthFilter | None = None
    pii: PiiFilter | None = None
    quality: QualityFilter | None = None


class NearDedup(ApiModel):
    """MinHash over runs of five words: records that share most of them are one; the first is kept."""

    threshold_percent: Annotated[
        int, Field(ge=50, le=99, description="Share of common five-word runs from which on two records are one.")
    ] = 80


class Dedup(ApiModel):
    exact: bool = True
    near: NearDedup | None = None


class BalanceStrategy(StrEnum):
    UPSAMPLE = "Upsample"
    DOWNSAMPLE = "Downsample"


class Balance(ApiModel):
    """As many training records of each value of a column: rare ones repeated, or frequent ones left out."""

    column: Annotated[str, Field(min_length=1, max_length=256)]
    strategy: BalanceStrategy = BalanceStrategy.UPSAMPLE
