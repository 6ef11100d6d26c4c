"""Every reason that verify, fetch and check give, in one place: the operator shows them, users grep for them."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    VERIFIED = "Verified"
    FETCHED = "Fetched"
    CHECKED = "Checked"

    INVALID_CONFIG = "InvalidConfig"
    """Exit 64: the operator's own mistake."""
    ADAPTER_ONLY = "AdapterOnly"
    NOT_GENERATIVE = "NotGenerative"
    """Exit 64: the spec names something that cannot be served by itself."""

    # What may still arrive or pass (exit 69). Storage adds StorageUnreachable, StorageDenied and StorageMissing.
    MANIFEST_MISSING = "ManifestMissing"
    WAITING_FOR_DATASET = "WaitingForDataset"
    ENGINE_UNREACHABLE = "EngineUnreachable"
    STABLE_UNREACHABLE = "StableUnreachable"

    # The stored model is not what was published (exit 66).
    MANIFEST_INVALID = "ManifestInvalid"
    MANIFEST_TAMPERED = "ManifestTampered"
    FILE_MISSING = "FileMissing"
    FILE_SIZE = "FileSize"
    FILE_TAMPERED = "FileTampered"
    MODEL_INVALID = "ModelInvalid"
    NO_RECORDS = "NoRecords"
    """Of a quality check's data."""

    # Good storage, bad model (exit 76).
    GATE_FAILED = "GateFailed"
    VERIFY_FAILED = "VerifyFailed"
    CHECK_TIMEOUT = "CheckTimeout"
    LOGPROBS_DIFFER = "LogprobsDiffer"
    QUALITY_FAILED = "QualityFailed"

    STORAGE_UNREACHABLE = "StorageUnreachable"
    """Exit 74 of fetch, after long patience."""
