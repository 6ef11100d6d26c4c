"""Images that are one static binary on an empty root: what holds a pod's namespaces, and the Gateway's proxy."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from e2e import tools
from e2e.images import product
from e2e.images.buildah import buildah, exists
from e2e.tools import golang
from e2e.tools.places import REPO, cache_dir
from e2e.tools.progress import Progress

PAUSE = "localhost/finetune-pause:1"
NOBODY = "65532:65532"


def ensure_pause(progress: Progress) -> str:
    """The image that holds a pod's namespaces open."""
    if not exists(PAUSE):
        with progress.step("build the pause image"):
            binary = cache_dir() / "images" / "pause"
            binary.parent.mkdir(parents=True, exist_ok=True)
            env = os.environ | {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "-trimpath -buildvcs=false"}
            env |= {"GOCACHE": str(binary.parent / "gocache")}
            command = [str(golang.find("1.23")), "build", "-ldflags", "-s -w", "-o", str(binary), "."]
            subprocess.run(command, cwd=REPO / "e2e/images/pause", env=env, check=True)
            shutil.rmtree(binary.parent / "gocache")
            _commit(binary, "/pause", "65535:65535", PAUSE)
    product.write_layout(PAUSE, progress)
    return PAUSE


def traefik_reference() -> str:
    """Named like the public image, because it is the same program."""
    return f"localhost/finetune-traefik:{tools.tool_of('traefik').version}"


def ensure_traefik(progress: Progress) -> str:
    """The Gateway's proxy, from the binary that was built with the other tools."""
    image = traefik_reference()
    if not exists(image):
        binary = tools.ensure("traefik", progress=progress)["traefik"]
        with progress.step(f"build image {image}"):
            _commit(binary, "/usr/local/bin/traefik", NOBODY, image)
    product.write_layout(image, progress)
    return image


def _commit(binary: Path, inside: str, user: str, image: str) -> None:
    container = buildah("from", "scratch").strip()
    buildah("copy", container, binary, inside)
    buildah("config", "--entrypoint", f'["{inside}"]', "--user", user, "--env", "PATH=/usr/local/bin", container)
    buildah("commit", "--rm", "--disable-compression", container, image)
