"""The console script `finetune-operator`."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Sequence

from prometheus_client import disable_created_metrics

from finetune_operator.core.plan import plan
from finetune_operator.shell import logs
from finetune_operator.shell.config import ConfigError, load
from finetune_operator.shell.connection import find_access
from finetune_operator.shell.operator import Operator

_USAGE = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 stopped by a signal, 1 lost its lease or its watches, 2 wrong settings."""
    disable_created_metrics()  # type: ignore[no-untyped-call]
    try:
        options = load(argv)
        logs.setup(options.log_level)
        access = find_access(options.kubeconfig)

        async def run() -> int:
            return await Operator(options, access, plan).run()

        return asyncio.run(run())
    except ConfigError as error:
        print(f"finetune-operator: {error}", file=sys.stderr)
        return _USAGE
    finally:
        logging.shutdown()
