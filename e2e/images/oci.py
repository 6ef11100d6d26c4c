"""An image as an OCI layout on disk, and the part of it that a node lacks as an archive for `ctr images import`.

The trainer image is more than 5 GB, a source change alters its last few hundred kilobytes. Pushing into a layout
rewrites only new layers, and an archive may omit blobs that containerd's content store already holds, so that a
changed image reaches a node in about a second without a registry.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO, Any

REF_NAME = "org.opencontainers.image.ref.name"
CONTAINERD_NAME = "io.containerd.image.name"


def blob_path(layout: Path, digest: str) -> Path:
    return layout / "blobs" / digest.replace(":", "/")


def descriptor(layout: Path, name: str) -> dict[str, Any]:
    """The manifest's descriptor that was pushed under this name."""
    index = json.loads((layout / "index.json").read_text())
    for entry in index["manifests"]:
        if entry.get("annotations", {}).get(REF_NAME) == name:
            return dict(entry)
    raise KeyError(f"{layout}: no image named {name!r}")


def blobs(layout: Path, manifest_digest: str) -> Iterator[str]:
    """Digests of the manifest, its configuration and its layers."""
    manifest = json.loads(blob_path(layout, manifest_digest).read_text())
    yield manifest_digest
    yield manifest["config"]["digest"]
    yield from dict.fromkeys(layer["digest"] for layer in manifest["layers"])


def write_archive(layout: Path, name: str, image: str, held: Collection[str], out: IO[bytes]) -> int:
    """Write the archive that makes a containerd holding the blobs `held` know `image`; bytes of blobs written."""
    entry = descriptor(layout, name)
    entry["annotations"] = {CONTAINERD_NAME: image, REF_NAME: image.rpartition(":")[2]}
    index = {"schemaVersion": 2, "manifests": [entry]}
    written = 0
    with tarfile.open(fileobj=out, mode="w|") as tar:
        for file, content in (("oci-layout", {"imageLayoutVersion": "1.0.0"}), ("index.json", index)):
            data = json.dumps(content).encode()
            info = tarfile.TarInfo(file)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for digest in blobs(layout, entry["digest"]):
            if digest in held:
                continue
            path = blob_path(layout, digest)
            info = tarfile.TarInfo(f"blobs/{digest.replace(':', '/')}")
            info.size = path.stat().st_size
            with path.open("rb") as blob:
                tar.addfile(info, blob)
            written += info.size
    return written
