"""The console script `finetune-operator`."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
import threading
from collections.abc import Sequence

from prometheus_client import disable_created_metrics

from finetune_operator.core.plan import plan
from finetune_operator.core.serving.plan import plan_deployment
from finetune_operator.shell import logs
from finetune_operator.shell.config import ConfigError, load
from finetune_operator.shell.connection import find_access
from finetune_operator.shell.operator import Operator

_USAGE = 2
_GARBAGE = (50_000, 20, 50)
"""Containers made before Python looks for cycles: objects from the wire have none, and 700 of them are one answer."""
_END_SECONDS = 15.0


def _end_for_sure(code: int) -> None:
    """A task that resists its cancellation must not keep a process alive that no longer leads."""
    timer = threading.Timer(_END_SECONDS, os._exit, (code,))
    timer.daemon = True
    timer.start()


def _keep_everything() -> None:
    """What is there now stays: looking through ten thousand objects for cycles would hold up all else for seconds."""
    gc.collect()
    gc.freeze()


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 stopped by a signal, 1 lost its lease or its watches, 2 wrong settings."""
    gc.freeze()
    gc.set_threshold(*_GARBAGE)
    disable_created_metrics()  # type: ignore[no-untyped-call]
    try:
        options = load(argv)
        logs.setup(options.log_level)
        access = find_access(options.kubeconfig)

        async def run() -> int:
            code = await Operator(options, access, plan, plan_deployment, learned=_keep_everything).run()
            _end_for_sure(code)
            return code

        return asyncio.run(run())
    except ConfigError as error:
        print(f"finetune-operator: {error}", file=sys.stderr)
        return _USAGE
    finally:
        logging.shutdown()
