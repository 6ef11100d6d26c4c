"""From a URI to a store: which backend, which directory of a claim, whose credentials."""

from collections.abc import Mapping
from pathlib import Path

from .base import Entry, Store, StoreOptions
from .errors import InvalidUri, NotFound
from .local import LocalStore
from .uri import Uri, parse_uri

DEFAULT_MOUNTS = Path("/mnt/pvc")


def open_store(
    uri: str,
    *,
    credentials: Path | Mapping[str, str] | None = None,
    mounts: Path | None = None,
    options: StoreOptions | None = None,
) -> Store:
    """A store below `uri`. Nothing is contacted yet.

    credentials: a mounted Secret (files named AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION,
        AWS_ENDPOINT_URL, AWS_CA_BUNDLE; for hf:// HF_TOKEN, HF_ENDPOINT, HF_CA_BUNDLE) or a mapping of these. None: the
        environment or the pod's cloud identity. Region, endpoint and CA bundle of S3 fall back to the environment, keys
        do not.
    mounts: where the pod mounts claims: `pvc://claim/path` is `<mounts>/claim/path`.
    """
    location = parse_uri(uri)
    options = options or StoreOptions()
    if location.scheme == "s3":
        from .s3 import ObjectStore
        from .s3_client import Bucket

        return ObjectStore(location, Bucket(location.authority, credentials, options))
    if location.scheme == "hf":
        from .hub import HubStore
        from .hub_client import Repository

        return HubStore(location, Repository(location.authority, credentials, options))
    if location.scheme == "file":
        return LocalStore(location, Path("/", location.path), options)
    claim = (mounts or DEFAULT_MOUNTS) / location.authority
    if not claim.is_dir():
        advice = "is the claim in the job's namespace, and does this pod mount it there?"
        raise NotFound(str(location), "open", f"the claim is not mounted at {claim}", advice)
    return LocalStore(location, claim / location.path, options)


def open_source(
    uri: str,
    *,
    credentials: Path | Mapping[str, str] | None = None,
    mounts: Path | None = None,
    options: StoreOptions | None = None,
) -> tuple[Store, list[Entry]]:
    """What a data or model URI stands for: one object (in the store above it) or all objects below it.

    NotFound when there is neither.
    """
    store = open_store(uri, credentials=credentials, mounts=mounts, options=options)
    above, name = split(store.location)
    if name and not uri.endswith("/"):
        parent = open_store(str(above), credentials=credentials, mounts=mounts, options=options)
        try:
            return parent, [parent.head(name)]
        except NotFound:
            pass
    entries = list(store.list())
    if not entries:
        raise NotFound(store.uri, "read", "neither an object nor a directory with objects", "check the URI")
    return store, entries


def split(location: Uri) -> tuple[Uri, str]:
    """The URI above, and the last name; the name is empty for a bucket, claim or root."""
    above, _, name = location.path.rpartition("/")
    return Uri(location.scheme, location.authority, above), name


def split_uri(uri: str) -> tuple[str, str]:
    """`split` on text; InvalidUri when no object is named."""
    above, name = split(parse_uri(uri))
    if not name:
        raise InvalidUri(uri, "read the URI", "it names no object", "expected a path after the bucket or claim")
    return str(above), name
