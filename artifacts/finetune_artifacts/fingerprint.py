"""A hash that names the content of a data set, so that the same training is recognised and not repeated.

ETags cost nothing but differ between stores and with the part size of an upload: equal content may get two
fingerprints, different content never gets one. Files have no ETag and are read, since times change with every copy.
"""

import hashlib
import json
from collections.abc import Iterable

from .base import Entry, Store
from .digest import Hasher
from .errors import ArtifactError


def _content(entry: Entry) -> str:
    if entry.etag:
        return f"etag:{entry.etag}"
    if entry.store is None:
        cause = "it has neither an ETag nor a store to read it from"
        raise ArtifactError(entry.path, "fingerprint", cause, "pass entries as a store lists them")
    hasher = Hasher("xxh3")
    for chunk in entry.store.open_read(entry.path):
        hasher.update(chunk)
    return hasher.text


def fingerprint(source: Store | Iterable[Entry]) -> str:
    """`sha256:<hex>` over names, sizes and ETags or content digests; the order of entries does not matter."""
    entries = source.list() if isinstance(source, Store) else source
    rows = sorted([entry.path, entry.size, _content(entry)] for entry in entries)
    return "sha256:" + hashlib.sha256(json.dumps(rows, separators=(",", ":")).encode()).hexdigest()
