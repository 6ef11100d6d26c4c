"""Every reason preflight can give, in one place: the operator shows them as condition reasons, users grep for them."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    ACCEPTED = "Accepted"
    ALREADY_PUBLISHED = "AlreadyPublished"

    # May still arrive (exit 69).
    WAITING_FOR_SECRET = "WaitingForSecret"  # noqa: S105 - a reason, not a password
    WAITING_FOR_DATASET = "WaitingForDataset"
    WAITING_FOR_MODEL = "WaitingForModel"
    STORAGE_UNREACHABLE = "StorageUnreachable"
    STORAGE_DENIED = "StorageDenied"
    STORAGE_MISSING = "StorageMissing"

    # Final until the spec changes (exit 64, data 66).
    INVALID_SPEC = "InvalidSpec"
    INVALID_MODEL = "InvalidModel"
    LORA_TARGETS_NOT_FOUND = "LoRATargetsNotFound"
    NOTHING_TRAINS = "NothingTrains"
    GATE_NOT_MEASURED = "GateNotMeasured"
    NOTHING_HELD_OUT = "NothingHeldOut"
    ESTIMATE_DOES_NOT_FIT = "EstimateDoesNotFit"
    OUTPUT_TAKEN = "OutputTaken"
    INVALID_DATA = "InvalidData"
    NO_RECORDS = "NoRecords"
    NO_CHAT_TEMPLATE = "NoChatTemplate"

    # Storage answered in a way nobody expected (exit 74).
    STORAGE = "Storage"
