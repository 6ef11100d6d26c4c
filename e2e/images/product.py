"""The images a cluster runs: which inputs each is made from, and making it only when those changed.

An image's tag is a digest of its inputs. A changed source is then a new tag, which rolls the Deployment that uses it
without anybody deleting pods, and an unchanged one is found by name alone.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from e2e.images import base
from e2e.images.buildah import build, buildah, exists, push_to_layout
from e2e.tools import golang
from e2e.tools.places import REPO, cache_dir
from e2e.tools.progress import Progress

SOURCES = (
    "pyproject.toml",
    "uv.lock",
    "README.md",
    "LICENSE",
    "crds/finetune_api",
    "artifacts/finetune_artifacts",
    "operator/finetune_operator",
    "trainer_image/finetune_trainer",
)
"""What the Dockerfiles copy; .dockerignore lets nothing else through."""


@dataclass(frozen=True)
class Product:
    """One image of ours. `repository` is its name on the cluster's nodes."""

    name: str
    dockerfile: str

    @property
    def repository(self) -> str:
        return f"localhost/{self.name}"


OPERATOR = Product("finetune-operator", "Dockerfile")
TRAINER = Product("finetune-trainer", "trainer_image/Dockerfile")
PRODUCTS = (OPERATOR, TRAINER)


def source_files(repo: Path = REPO) -> Iterator[Path]:
    for source in SOURCES:
        path = repo / source
        if path.is_dir():
            files = (p for p in path.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
            yield from sorted(files)
        elif path.exists():
            yield path


def source_digest(product: Product, base_image: str = "", repo: Path = REPO) -> str:
    """Twelve hex digits over everything that decides what the image contains."""
    digest = hashlib.sha256(base_image.encode())
    for path in (repo / product.dockerfile, *source_files(repo)):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(repo)}\0{content}\n".encode())
    return digest.hexdigest()[:12]


def reference(product: Product, base_image: str, repo: Path = REPO) -> str:
    return f"{product.repository}:{source_digest(product, base_image, repo)}"


def layout_dir() -> Path:
    return cache_dir() / "images" / "layout"


def pushed_name(image: str) -> str:
    """The name inside the OCI layout (which allows no registry-like names)."""
    return image.removeprefix("localhost/").replace(":", "-")


def ensure(product: Product, progress: Progress) -> str:
    """Build the image unless this very content was built before; its reference."""
    base_image = base.ensure(progress)
    image = reference(product, base_image)
    if not exists(image):
        with progress.step(f"build image {image}"):
            build(REPO / product.dockerfile, REPO, image, arguments={"BASE_IMAGE": base_image})
    _push_to_layout(image, progress)
    return image


def _push_to_layout(image: str, progress: Progress) -> None:
    from e2e.images.oci import descriptor

    name, layout = pushed_name(image), layout_dir()
    layout.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor(layout, name)
    except (OSError, KeyError):
        with progress.step(f"write image {image} as OCI layout"):
            push_to_layout(image, layout, name)


PAUSE = "localhost/finetune-pause:1"


@dataclass(frozen=True)
class Built:
    """References of the images a cluster needs."""

    pause: str
    operator: str
    trainer: str

    def all(self) -> list[str]:
        return [self.pause, self.operator, self.trainer]


def ensure_all(progress: Progress) -> Built:
    """Every image of the bare way, built if its inputs changed."""
    return Built(ensure_pause(progress), ensure(OPERATOR, progress), ensure(TRAINER, progress))


def ensure_pause(progress: Progress) -> str:
    """The image that holds a pod's namespaces open: one static binary."""
    if not exists(PAUSE):
        with progress.step("build the pause image"):
            binary = cache_dir() / "images" / "pause"
            binary.parent.mkdir(parents=True, exist_ok=True)
            env = os.environ | {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "-trimpath -buildvcs=false"}
            env |= {"GOCACHE": str(binary.parent / "gocache")}
            command = [str(golang.find("1.23")), "build", "-ldflags", "-s -w", "-o", str(binary), "."]
            subprocess.run(command, cwd=REPO / "e2e/images/pause", env=env, check=True)
            shutil.rmtree(binary.parent / "gocache")
            container = buildah("from", "scratch").strip()
            buildah("copy", container, binary, "/pause")
            buildah("config", "--entrypoint", '["/pause"]', "--user", "65535:65535", container)
            buildah("commit", "--rm", "--disable-compression", container, PAUSE)
    _push_to_layout(PAUSE, progress)
    return PAUSE
