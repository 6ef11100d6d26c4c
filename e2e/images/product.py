"""The images a cluster runs: which inputs each is made from, and making it only when those changed.

An image's tag is a digest of its inputs. A changed source is then a new tag, which rolls the Deployment that uses it
without anybody deleting pods, and an unchanged one is found by name alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from e2e.images import base
from e2e.images.buildah import build, exists, push_to_layout
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
    "cli/finetune_cli",
)
"""What the operator's and the trainer's Dockerfiles copy."""
ENGINE_SOURCES = ("pyproject.toml", "uv.lock", "serving_image/requirements.txt", "serving_image/site")
"""What the CPU engine's Dockerfile copies; .dockerignore lets nothing through that neither list names."""


@dataclass(frozen=True)
class Product:
    """One image of ours. `repository` is its name on the cluster's nodes."""

    name: str
    dockerfile: str
    sources: tuple[str, ...] = SOURCES
    context: str = "."

    @property
    def repository(self) -> str:
        return f"localhost/{self.name}"

    @property
    def key(self) -> str:
        """What the image is called in `Cluster.images`."""
        return self.name.removeprefix("finetune-")


OPERATOR = Product("finetune-operator", "Dockerfile")
TRAINER = Product("finetune-trainer", "trainer_image/Dockerfile")
ENGINE = Product("finetune-vllm", "serving_image/Dockerfile", ENGINE_SOURCES)
FAULTY = Product(
    "finetune-vllm-faulty", "e2e/images/faulty/Dockerfile", ("e2e/images/faulty/site",), "e2e/images/faulty"
)
"""The engine with faults on demand; made from ENGINE, only tests run it."""
PRODUCTS = (OPERATOR, TRAINER, ENGINE)


def source_files(product: Product, repo: Path = REPO) -> Iterator[Path]:
    for source in product.sources:
        path = repo / source
        if path.is_dir():
            files = (p for p in path.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
            yield from sorted(files)
        elif path.exists():
            yield path


def source_digest(product: Product, base_image: str = "", repo: Path = REPO) -> str:
    """Twelve hex digits over everything that decides what the image contains."""
    digest = hashlib.sha256(base_image.encode())
    for path in (repo / product.dockerfile, *source_files(product, repo)):
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


def ensure(product: Product, progress: Progress, base_image: str = "") -> str:
    """Build the image unless this very content was built before; its reference."""
    base_image = base_image or base.ensure(progress)
    image = reference(product, base_image)
    if not exists(image):
        with progress.step(f"build image {image}"):
            build(REPO / product.dockerfile, REPO / product.context, image, arguments={"BASE_IMAGE": base_image})
    write_layout(image, progress)
    return image


def write_layout(image: str, progress: Progress) -> None:
    """Put the image into the OCI layout from which nodes are loaded, unless it is there."""
    from e2e.images.oci import descriptor

    name, layout = pushed_name(image), layout_dir()
    layout.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor(layout, name)
    except (OSError, KeyError):
        with progress.step(f"write image {image} as OCI layout"):
            push_to_layout(image, layout, name)
