"""What it takes to hold many FineTuneJobs: a pass over all that finds nothing to do, and a restart."""

from __future__ import annotations

import time
from pathlib import Path

from bench import procfs, workload
from bench.bursts import Figures
from bench.client import Plain
from bench.lab import OPERATOR_USER, Lab
from bench.operator_process import OperatorProcess, wait_passes
from finetune_operator.core.names import GANG_SERVICE


def writes_since(lab: Lab, first: int) -> list[str]:
    """What the operator wrote, its Lease left out."""
    lab.audit.read()
    calls = lab.audit.calls[first:]
    return [f"{c.verb} {c.resource}" for c in calls if c.user == OPERATOR_USER and c.write and c.resource != "leases"]


async def noop(lab: Lab, operator: OperatorProcess, plain: Plain, jobs: int) -> Figures:
    """A harmless change of the Services that all gangs share makes every FineTuneJob due at once."""
    operator.settle()
    lab.audit.read()
    first = len(lab.audit.calls)
    passes, cpu = operator.passes(), operator.cpu()
    spent = operator.metric("finetune_operator_reconcile_seconds_sum")
    began = time.perf_counter()
    for namespace in workload.namespaces(jobs):
        path = f"/api/v1/namespaces/{namespace}/services/{GANG_SERVICE}"
        await plain.call("PATCH", path, {"spec": {"sessionAffinity": "ClientIP"}}, "application/merge-patch+json")
    wait_passes(operator, passes + jobs, 300)
    seconds = time.perf_counter() - began
    return {
        "no-op passes": operator.passes() - passes,
        "no-op CPU s": operator.cpu() - cpu,
        "no-op reconcile s": operator.metric("finetune_operator_reconcile_seconds_sum") - spent,
        "no-op wall s": seconds,
        "no-op writes": len(writes_since(lab, first)),
        "no-op load": procfs.load_average(),
    }


def restart(lab: Lab, jobs: int, folder: Path) -> tuple[OperatorProcess, Figures]:
    """A new process, from its start until every FineTuneJob has been looked at. The former one has been stopped."""
    lab.audit.read()
    first = len(lab.audit.calls)
    operator = OperatorProcess(lab, folder)
    began = time.perf_counter()
    operator.__enter__()
    ready = time.perf_counter() - began
    wait_passes(operator, jobs, 300)
    reconciled = time.perf_counter() - began
    cpu = operator.cpu()
    operator.settle()
    figures: Figures = {
        "restart to ready s": ready,
        "restart to reconciled s": reconciled,
        "restart CPU s": cpu,
        "restart writes": len(writes_since(lab, first)),
        "restart RSS MiB": operator.memory()[0],
        "restart RSS peak MiB": operator.memory()[1],
        "restart load": procfs.load_average(),
    }
    return operator, figures
