"""buildah as we call it: own storage in the cache, chroot isolation, so that no daemon and no user is disturbed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from e2e.tools.places import cache_dir

HOST_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


class BuildFailed(Exception):
    """A build command failed; the message ends with what it printed."""


def _roots() -> tuple[Path, Path]:
    return cache_dir() / "buildah" / "storage", cache_dir() / "buildah" / "run"


def _storage() -> list[str]:
    root, run = _roots()
    return ["--root", str(root), "--runroot", str(run), "--storage-driver", "overlay"]


def buildah(*args: str | Path, input: bytes | None = None) -> str:
    command = ["buildah", *_storage(), *map(str, args)]
    run = subprocess.run(command, input=input, capture_output=True)
    if run.returncode:
        output = (run.stdout + run.stderr).decode(errors="replace")
        raise BuildFailed(f"buildah {args[0]} failed:\n{output[-6000:]}")
    return run.stdout.decode()


def exists(reference: str) -> bool:
    command = ["buildah", *_storage(), "inspect", "--type", "image", reference]
    return subprocess.run(command, capture_output=True).returncode == 0


def build(dockerfile: Path, context: Path, tag: str, *, arguments: dict[str, str] | None = None) -> None:
    """`buildah build` with layer caching. The host's CA bundle is lent to the build, not copied into the image."""
    options = ["--layers", "--isolation=chroot", "--network=host", f"--file={dockerfile}", f"--tag={tag}"]
    if HOST_CERTIFICATES.exists():
        options += [f"--volume={HOST_CERTIFICATES.parent}:{HOST_CERTIFICATES.parent}:ro"]
        options += [f"--build-arg=SSL_CERT_FILE={HOST_CERTIFICATES}"]
    for key, value in (arguments or {}).items():
        options.append(f"--build-arg={key}={value}")
    buildah("build", *options, context)


def push_to_layout(image: str, layout: Path, name: str) -> None:
    """Write the image into an OCI layout, uncompressed: only then is a layer's digest known beforehand, and a layer
    that the layout has already is not written again (40 s for a whole trainer image, 0.2 s for a changed one).
    buildah itself cannot leave layers uncompressed there; skopeo can."""
    root, run = _roots()
    source = f"containers-storage:[overlay@{root}+{run}]{image}"
    command = ["skopeo", "copy", "--quiet", "--dest-oci-accept-uncompressed-layers", source, f"oci:{layout}:{name}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise BuildFailed(f"skopeo copy of {image} failed:\n{(done.stdout + done.stderr)[-3000:]}")


def clean() -> None:
    """Forget every image and layer of our storage (mounts included)."""
    if shutil.which("buildah") and (cache_dir() / "buildah").exists():
        buildah("rm", "--all")
        buildah("rmi", "--all", "--force")
