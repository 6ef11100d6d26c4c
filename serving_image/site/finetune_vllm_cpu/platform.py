"""The platform itself; in a module of its own because vLLM may import it only after having asked who is there."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from vllm.platforms.cpu import CpuPlatform

if TYPE_CHECKING:
    from vllm.config import VllmConfig


class ForkingCpuPlatform(CpuPlatform):
    """CpuPlatform sets the start method after its own configuration; what it decides besides stays."""

    @classmethod
    def check_and_update_config(cls, vllm_config: VllmConfig) -> None:
        super().check_and_update_config(vllm_config)
        os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"
