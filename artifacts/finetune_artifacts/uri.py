"""The URIs of storage, and the one place that decides which paths are safe.

Paths come from manifests and from users; a `..` in one of them would write outside the directory that was meant.
Schemes that API.md names but this version does not read yet are refused by name, not as typing errors.
"""

import re
from dataclasses import dataclass, replace

from .errors import InvalidUri, clip

TEMP_PREFIX = ".tmp-"
"""Names of unfinished files. Listings never show them, so nobody may store under such a name."""

SCHEMES = ("s3", "file", "pvc", "hf")
_EXPECTED = "expected s3://bucket/prefix, pvc://claim/path, hf://organisation/name or file:///absolute/path"
_LATER = {"gs", "az", "oci", "configmap"}
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_REPOSITORY = re.compile(r"(datasets/)?(?!datasets/)[A-Za-z0-9][\w.-]{0,95}/[\w.-]{1,96}(@[\w.-]{1,128})?", re.ASCII)
COMMIT = re.compile(r"[0-9a-f]{40}")
_CLAIM = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")


@dataclass(frozen=True)
class Uri:
    """`scheme://authority/path`; path has no leading or trailing slash. The authority is the bucket, the claim, or the
    repository: `[datasets/]organisation/name[@revision]`."""

    scheme: str
    authority: str
    path: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}" + (f"/{self.path}" if self.path or not self.authority else "")

    def join(self, path: str) -> "Uri":
        return replace(self, path="/".join(p for p in (self.path, path) if p))


def check_path(path: str, base: str, *, empty: bool = False) -> str:
    """The path without a trailing slash, or InvalidUri. `base` is the URI it is relative to, for the message."""
    shown = repr(clip(path))
    advice = "use a relative path of plain names, such as step-100-a1/MANIFEST.json"
    if path.startswith("/"):
        raise InvalidUri(base, f"use the path {shown} in", "the path is absolute", advice)
    trimmed = path.removesuffix("/")
    if not trimmed:
        if empty and path == "":
            return ""
        raise InvalidUri(base, f"use the path {shown} in", "the path is empty", advice)
    if any(ord(c) < 32 or ord(c) == 127 or 0xD800 <= ord(c) <= 0xDFFF for c in trimmed):
        raise InvalidUri(base, f"use the path {shown} in", "it holds a control or undecodable character", advice)
    for part in trimmed.split("/"):
        if part in ("", ".", ".."):
            raise InvalidUri(base, f"use the path {shown} in", f"the part {part!r} is not a name", advice)
        if part.startswith(TEMP_PREFIX):
            raise InvalidUri(base, f"use the path {shown} in", f"names in {TEMP_PREFIX}… are reserved", advice)
    return trimmed


def parse_uri(uri: str) -> Uri:
    """Check a URI by its scheme's rules. Percent signs are literal, as in the aws CLI."""
    scheme, separator, rest = uri.partition("://")
    shown = clip(uri)
    if not separator:
        raise InvalidUri(shown, "read the URI", "it has no scheme", _EXPECTED)
    if scheme not in SCHEMES:
        cause = "is not supported by this version yet" if scheme in _LATER else "is not known"
        raise InvalidUri(shown, "read the URI", f"the scheme {clip(scheme)!r} {cause}", _EXPECTED)
    authority, _, path = rest.partition("/")
    if scheme == "hf":
        parts = rest.split("/")
        count = 3 if parts[0] == "datasets" else 2
        authority, path = "/".join(parts[:count]), "/".join(parts[count:])
        if not _REPOSITORY.fullmatch(authority):
            advice = "expected hf://organisation/name, hf://datasets/organisation/name, and @revision if need be"
            raise InvalidUri(shown, "read the URI", f"{clip(authority)!r} is not a repository of the Hub", advice)
    elif scheme == "file":
        if authority or not rest.startswith("/"):
            raise InvalidUri(shown, "read the URI", "a file URI needs an absolute path", "write file:///data/model")
    elif "@" in authority:
        raise InvalidUri(shown, "read the URI", "it holds credentials", "put them in a Secret and name it in secretRef")
    elif scheme == "s3" and not _BUCKET.fullmatch(authority):
        advice = "3 to 63 of a-z, 0-9, '-' and '.', as in s3://team-a/support"
        raise InvalidUri(shown, "read the URI", f"{clip(authority)!r} is not a bucket name", advice)
    elif scheme == "pvc" and not _CLAIM.fullmatch(authority):
        advice = "name a PersistentVolumeClaim of the job's namespace, as in pvc://datasets/support"
        raise InvalidUri(shown, "read the URI", f"{clip(authority)!r} is not a claim name", advice)
    return Uri(scheme, authority, check_path(path, shown, empty=True) if path.strip("/") else "")
