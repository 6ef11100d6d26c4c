"""What a GPU holds and computes, as far as the spec says which GPU it will be.

Preflight runs on no GPU. The spec can name one in three ways, all of them labels and resource names of NVIDIA's device
plugin and GPU feature discovery: the resource itself (a MIG slice), or the node selector's memory or product.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from finetune_api.running import Resources

PRODUCT, MEMORY = "nvidia.com/gpu.product", "nvidia.com/gpu.memory"
_MIG = re.compile(r"nvidia\.com/mig-\d+g\.(\d+)gb.*")


@dataclass(frozen=True)
class Gpu:
    name: str
    """Where the figures come from, for people."""
    memory: int
    """Bytes."""
    half_flops: float | None = None
    """Dense bf16, per second; NVIDIA's data sheets."""
    full_flops: float | None = None
    """fp32 without TF32."""


_TABLE = (
    # Words of the product label; MiB as nvidia-smi tells them, which are less than the name says; dense teraflops in
    # bf16 and in fp32. The more special entry stands first.
    ("B200", 183359, 2250, 75),
    ("H200", 143771, 989, 67),
    ("H100 NVL", 95830, 835, 60),
    ("H100 PCIE", 81559, 756, 51),
    ("H100", 81559, 989, 67),
    ("A100 80GB", 81920, 312, 19.5),
    ("A100 40GB", 40960, 312, 19.5),
    ("L40S", 46068, 362, 91.6),
    ("L40", 46068, 181, 90.5),
    ("L4", 23034, 121, 30.3),
    ("A10G", 23028, 70, 31.2),
    ("A10", 23028, 125, 31.2),
    ("A6000", 49140, 155, 38.7),
    ("4090", 24564, 165, 82.6),
    ("V100 32GB", 32768, None, 15.7),
    ("V100 16GB", 16384, None, 15.7),
    ("T4", 15360, None, 8.1),
)


def find_gpu(resources: Resources) -> Gpu | None:
    """None: the spec does not say which."""
    selector = resources.node_selector or {}
    slice_ = _MIG.fullmatch(resources.gpu_resource)
    if slice_:
        return Gpu(resources.gpu_resource, int(slice_[1]) * 10**9)
    named = _by_product(selector.get(PRODUCT, ""))
    mebibytes = selector.get(MEMORY, "")
    if mebibytes.isascii() and mebibytes.isdigit():
        flops = (named.half_flops, named.full_flops) if named else (None, None)
        return Gpu(f"{MEMORY}={mebibytes}", int(mebibytes) << 20, *flops)
    return named


def _by_product(label: str) -> Gpu | None:
    there = set(re.split(r"[^A-Z0-9]+", label.upper()))
    for words, mebibytes, half, full in _TABLE:
        if there.issuperset(words.split()):
            return Gpu(label, mebibytes << 20, half * 1e12 if half else None, full * 1e12)
    return None
