"""`python -m e2e.images`: build the product's images, and with `--registry` push them for a cluster of your own.

Docker is used where its engine answers, buildah otherwise. Images for a registry start from python:3.12-slim-bookworm
like the Dockerfiles say; `--base debootstrap` makes the base from Debian's packages instead.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tomllib

from e2e.cluster.kind import engine_answers
from e2e.images import base, buildah, product
from e2e.tools.places import REPO
from e2e.tools.progress import Progress

DEFAULT_BASE = "python:3.12-slim-bookworm"


def default_tag() -> str:
    """The project's version."""
    return str(tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["version"])


def base_image(wanted: str, progress: Progress) -> str:
    return base.ensure(progress) if wanted == "debootstrap" else wanted


def build_and_push(one: product.Product, target: str, base_reference: str, *, docker: bool) -> None:
    dockerfile = REPO / one.dockerfile
    if docker:
        arguments = ["--build-arg", f"BASE_IMAGE={base_reference}", "--file", str(dockerfile)]
        subprocess.run(["docker", "build", *arguments, "--tag", target, str(REPO)], check=True)
        subprocess.run(["docker", "push", target], check=True)
        return
    buildah.build(dockerfile, REPO, target, arguments={"BASE_IMAGE": base_reference})
    buildah.buildah("push", target)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m e2e.images", description=__doc__.partition("\n")[0])
    parser.add_argument("--registry", default="", help="host and path to push to; empty: build for the local cluster")
    parser.add_argument("--tag", default="", help="default: the project's version")
    parser.add_argument("--cpu-engine", action="store_true", help="vLLM for clusters without GPUs too, 7 GB")
    parser.add_argument("--base", default=DEFAULT_BASE, help=f"base image, or `debootstrap`; default {DEFAULT_BASE}")
    arguments = parser.parse_args()
    progress, docker = Progress(), engine_answers()
    wanted = [one for one in product.PRODUCTS if arguments.cpu_engine or one is not product.ENGINE]
    if not docker and not all(map(shutil.which, ("buildah", "skopeo", "debootstrap"))):
        print("Neither a Docker engine answers nor are buildah, skopeo and debootstrap installed", file=sys.stderr)
        return 1
    try:
        if not arguments.registry:
            for one in wanted:
                print(product.ensure(one, progress))
            return 0
        start_from = base_image(arguments.base, progress)
        for one in wanted:
            target = f"{arguments.registry.rstrip('/')}/{one.name}:{arguments.tag or default_tag()}"
            with progress.step(f"build and push {target}"):
                build_and_push(one, target, start_from, docker=docker)
            print(target)
    except (buildah.BuildFailed, subprocess.CalledProcessError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
