"""Takes away what former versions of our images left behind: each one of the trainer's is 5 GB twice over."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

from e2e.images.buildah import BuildFailed, buildah
from e2e.images.oci import REF_NAME, blobs

OURS = "localhost/finetune-"


def prune_storage(keep: Collection[str]) -> None:
    """Out of the builder's storage. Layers that a kept image shares stay, and with them the build cache."""
    for line in buildah("images", "--format", "{{.Name}}:{{.Tag}}").splitlines():
        if line.startswith(OURS) and line not in keep:
            try:
                buildah("rmi", line)
            except BuildFailed:
                continue  # another build stands on it


def prune_layout(layout: Path, keep: Collection[str]) -> int:
    """Out of the OCI layout: every entry whose name is not kept, and the blobs nobody names any more. Bytes freed."""
    index_path = layout / "index.json"
    if not index_path.exists():
        return 0
    index = json.loads(index_path.read_text())
    kept = [entry for entry in index["manifests"] if entry.get("annotations", {}).get(REF_NAME) in keep]
    if len(kept) == len(index["manifests"]):
        return 0
    fresh = index_path.with_suffix(".partial")
    fresh.write_text(json.dumps({**index, "manifests": kept}))
    fresh.replace(index_path)
    named = {digest.partition(":")[2] for entry in kept for digest in blobs(layout, entry["digest"])}
    freed = 0
    for blob in (layout / "blobs" / "sha256").iterdir():
        if blob.name not in named:
            freed += blob.stat().st_size
            blob.unlink()
    return freed


def names(listing: str, keep: Collection[str]) -> list[str]:
    """Out of a containerd, by what `ctr images list` prints: our names that are not kept, and those by digest that
    containerd itself gave to the same content; either of them alone holds it."""
    rows = [line.split() for line in listing.splitlines()[1:] if line.strip()]
    held = {digest for name, _type, digest, *_ in rows if name in keep}
    return [
        name
        for name, _type, digest, *_ in rows
        if (name.startswith(OURS) and name not in keep) or (name.startswith("sha256:") and digest not in held)
    ]
