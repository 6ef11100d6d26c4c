"""Artifacts: URIs to bytes, digests, atomic publish. See `base.Store` for the interface."""

from .base import Entry, Progress, Store, StoreOptions
from .digest import Algorithm, FileDigest, digest_bytes, digest_file
from .errors import (
    AccessDenied,
    AlreadyExists,
    ArtifactError,
    DigestMismatch,
    InvalidUri,
    NotFound,
    Unreachable,
)
from .fingerprint import fingerprint
from .opening import open_source, open_store, split_uri
from .progress import show_progress
from .publish import check_writable, commit
from .uri import COMMIT, Uri, parse_uri

__all__ = [
    "COMMIT",
    "AccessDenied",
    "Algorithm",
    "AlreadyExists",
    "ArtifactError",
    "DigestMismatch",
    "Entry",
    "FileDigest",
    "InvalidUri",
    "NotFound",
    "Progress",
    "Store",
    "StoreOptions",
    "Unreachable",
    "Uri",
    "check_writable",
    "commit",
    "digest_bytes",
    "digest_file",
    "fingerprint",
    "open_source",
    "open_store",
    "parse_uri",
    "show_progress",
    "split_uri",
]
