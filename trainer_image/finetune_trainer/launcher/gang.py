"""Runs this pod's ranks with torchrun's own library and says with which codes they ended.

The torchrun command loses exit codes (it returns 1) and kills its ranks 30 s after SIGTERM whatever the pod's grace
period is. `elastic_launch` does neither when it is kept away from signals: it runs on a thread, where it cannot
install handlers, and `signals_to_handle` is empty all the same.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

from finetune_api.runconfig import RunConfig

if TYPE_CHECKING:
    from torch.distributed import Store

SHUTDOWN_SECONDS = 5
"""Between SIGTERM and SIGKILL for the ranks that remain after one has failed; they have nothing left to save."""
STORE_TIMEOUT_SECONDS = 7 * 24 * 3600
"""Peers may fetch for long; whether waiting is hopeless is the hang watch's question."""
LEAVE_SECONDS = 5
"""For the other pods to take their last look at the first one's store when all have finished."""


class GangFailed(Exception):
    """`exit_codes` by global rank, first failure first."""

    def __init__(self, exit_codes: Mapping[int, int]) -> None:
        super().__init__(f"ranks ended with {dict(exit_codes)}")
        self.exit_codes = exit_codes


def set_environment(config: RunConfig) -> None:
    """For the ranks, which inherit it."""
    for name, value in {
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "PYTHONWARNINGS": "ignore::FutureWarning",
        "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1",
    }.items():
        os.environ.setdefault(name, value)
    if config.master_address in ("127.0.0.1", "localhost"):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")


def run_gang(config: RunConfig, index: int, port: int) -> None:
    """Returns when all local ranks returned 0. Raises GangFailed, or what the rendezvous raises."""
    from torch.distributed import TCPStore
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    master = "127.0.0.1" if index == 0 else config.master_address
    store = TCPStore(
        master,
        port,
        is_master=index == 0,
        timeout=timedelta(seconds=STORE_TIMEOUT_SECONDS),
        wait_for_workers=False,
        multi_tenant=True,
    )
    launch = LaunchConfig(
        min_nodes=config.nodes,
        max_nodes=config.nodes,
        nproc_per_node=config.processes_per_node,
        run_id=f"{config.uid}-{config.attempt}",
        role="trainer",
        rdzv_backend="static",
        rdzv_endpoint=f"{master}:{port}",
        rdzv_configs={"rank": index, "timeout": STORE_TIMEOUT_SECONDS},
        max_restarts=0,
        monitor_interval=0.1,
        logs_specs=DefaultLogsSpecs(log_dir=os.devnull),
        signals_to_handle="",
        shutdown_timeout=SHUTDOWN_SECONDS,
    )
    # It warns that it cannot handle signals on a thread (the point), and reports 85 as an error.
    logging.getLogger("torch.distributed.elastic.multiprocessing.api").setLevel(logging.CRITICAL)
    try:
        elastic_launch(launch, sys.executable)("-u", "-m", "finetune_trainer.engine.worker")
    except ChildFailedError as error:
        ordered = sorted(error.failures.items(), key=lambda item: item[1].timestamp)
        raise GangFailed({rank: failure.exitcode for rank, failure in ordered}) from None
    _leave(store, index, config.nodes)


def _leave(store: Store, index: int, nodes: int) -> None:
    """Elastic's exit barrier ends for the pod that serves the store before the others have heard of it: their store
    would be gone, and a good end look like a crash in their logs."""
    from torch.distributed import DistError

    with contextlib.suppress(DistError):
        if index:
            store.set(f"left-{index}", "")
        elif nodes > 1:
            store.wait([f"left-{other}" for other in range(1, nodes)], timedelta(seconds=LEAVE_SECONDS))
