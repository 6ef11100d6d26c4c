"""What a job reads from storage."""

from __future__ import annotations

from typing import Protocol

from finetune_api.objective import HasObjective, taught_from
from finetune_api.retention import HasRetention, all_sources
from finetune_api.storage import Stored


class Reads(HasObjective, HasRetention, Protocol):
    @property
    def model(self) -> Stored: ...


def inputs(spec: Reads) -> list[Stored]:
    """The base model, what a student learns from, and every source of data."""
    taught = taught_from(spec)
    return [spec.model, *([taught[1]] if taught else []), *all_sources(spec)]
