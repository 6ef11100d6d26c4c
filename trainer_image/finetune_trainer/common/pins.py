"""Repositories of the Hub at the commit that preflight found: a branch moves, a run must not."""

from __future__ import annotations

from collections.abc import Mapping

from finetune_artifacts import COMMIT, Uri, parse_uri


def moving(uri: str) -> str | None:
    """`hf://organisation/name[@branch]` of a URI whose content can change under it; None for all others.

    Raises InvalidUri.
    """
    found = parse_uri(uri)
    if found.scheme != "hf" or COMMIT.fullmatch(found.authority.partition("@")[2]):
        return None
    return f"hf://{found.authority}"


def name_on_the_hub(uri: str) -> tuple[str, str | None] | None:
    """(`organisation/name`, revision) of a model that other libraries can find by these; None where they cannot."""
    found = parse_uri(uri)
    if found.scheme != "hf" or found.path:
        return None
    name, _, revision = found.authority.partition("@")
    return name, revision or None


def pinned(uri: str, pins: Mapping[str, str]) -> str:
    """The same at the commit that `pins` (see RunConfig) has of it. Raises InvalidUri."""
    repository = moving(uri)
    if repository is None or repository not in pins:
        return uri
    found = parse_uri(uri)
    return str(Uri("hf", f"{found.authority.partition('@')[0]}@{pins[repository]}", found.path))
