"""Everything that the nodes of a bare cluster are loaded with, by the names that scenarios use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from e2e.images import base, binaries, product, stale
from e2e.tools.progress import Progress


@dataclass(frozen=True)
class Built:
    """References of the images a cluster needs."""

    pause: str
    named: Mapping[str, str]
    """What `Cluster.images` gives: operator, trainer, vllm, vllm-faulty, traefik."""

    def all(self) -> list[str]:
        return [self.pause, *self.named.values()]


def ensure_all(progress: Progress) -> Built:
    """Every image of the bare way, built if its inputs changed. The trainer's comes before the engine's, which finds
    the torch layer there."""
    pause = binaries.ensure_pause(progress)
    named = {one.key: product.ensure(one, progress) for one in product.PRODUCTS}
    named[product.FAULTY.key] = product.ensure(product.FAULTY, progress, named[product.ENGINE.key])
    named["traefik"] = binaries.ensure_traefik(progress)
    built = Built(pause, named)
    # Made anew, the base would be another one to the builder, and every layer above it too.
    stale.prune_storage([base.reference(), *built.all()])
    stale.prune_layout(product.layout_dir(), [product.pushed_name(image) for image in built.all()])
    return built
