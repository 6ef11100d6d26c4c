"""The base image for machines that reach Debian's packages but no image registry: debootstrap's minimal system.

Everywhere else the Dockerfiles start from python:3.12-slim-bookworm. The root file system is kept as a tarball keyed
by what it was made from, because making it takes a minute.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
from pathlib import Path

from e2e.images.buildah import BuildFailed, buildah, exists
from e2e.tools.places import cache_dir
from e2e.tools.progress import Progress

SUITE = "bookworm"
PACKAGES = ("python3", "python3-venv", "ca-certificates")
NOT_NEEDED = ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale", "var/log")
RECIPE = "2"
"""Raised when the steps below change what comes out."""


def digest() -> str:
    return hashlib.sha256(repr((SUITE, PACKAGES, NOT_NEEDED, RECIPE)).encode()).hexdigest()[:12]


def reference() -> str:
    return f"localhost/finetune-base:{digest()}"


def ensure(progress: Progress) -> str:
    """The base image's reference in our buildah storage, made if missing."""
    if exists(reference()):
        return reference()
    tarball = cache_dir() / "images" / f"base-{digest()}.tar"
    if not tarball.exists():
        with progress.step(f"make the base image (debootstrap {SUITE})"):
            _bootstrap(tarball)
    with progress.step("import the base image"):
        container = buildah("from", "scratch").strip()
        buildah("add", container, tarball, "/")
        buildah("config", "--env", "LANG=C.UTF-8", "--cmd", "python3", container)
        buildah("commit", "--rm", "--disable-compression", container, reference())
    return reference()


def _bootstrap(tarball: Path) -> None:
    """debootstrap into a scratch folder, then a tarball that appears complete or not at all."""
    tarball.parent.mkdir(parents=True, exist_ok=True)
    root = tarball.parent / "base.rootfs"
    shutil.rmtree(root, ignore_errors=True)
    include = f"--include={','.join(PACKAGES)}"
    command = ["debootstrap", "--variant=minbase", include, SUITE, str(root)]
    run = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if run.returncode:
        raise BuildFailed(f"debootstrap failed:\n{run.stdout[-3000:]}")
    for folder in NOT_NEEDED:
        shutil.rmtree(root / folder, ignore_errors=True)
        (root / folder).mkdir(parents=True)
    for account, line in (("passwd", "finetune:x:65532:65532::/tmp:/usr/sbin/nologin"), ("group", "finetune:x:65532:")):
        with (root / "etc" / account).open("a") as file:
            file.write(line + "\n")
    partial = tarball.with_suffix(".part")
    with tarfile.open(partial, "w") as tar:
        for entry in sorted(root.iterdir()):
            if entry.name not in ("dev", "proc", "sys"):
                tar.add(entry, entry.name)
    partial.rename(tarball)
    shutil.rmtree(root, ignore_errors=True)
