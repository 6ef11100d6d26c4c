"""What it takes to hold many FineTuneJobs: a pass over all that finds nothing to do, and a restart."""

from __future__ import annotations

import time

from bench import procfs, workload
from bench.bursts import Figures
from bench.client import Plain
from bench.lab import OPERATOR_USER, Lab
from bench.operator_process import OperatorProcess, wait_passes
from finetune_operator.core.names import GANG_SERVICE


def writes_since(lab: Lab, first: int, active: int) -> list[str]:
    """What the operator wrote, its Lease left out, and the progress of the first `active` jobs."""
    lab.audit.read()
    reporting = {f"{workload.namespace_of(n)}/job-{n:05d}" for n in range(active)}
    return [
        f"{c.verb} {c.resource} {c.name}"
        for c in lab.audit.calls[first:]
        if c.user == OPERATOR_USER and c.write and c.resource != "leases" and c.job not in reporting
    ]


async def noop(lab: Lab, operator: OperatorProcess, plain: Plain, jobs: int, active: int = 0) -> Figures:
    """A harmless change of the Services that all gangs share makes every FineTuneJob due at once."""
    operator.settle(calm=1 if active else 5)
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
    writes = writes_since(lab, first, active)
    return {
        "no-op passes": operator.passes() - passes,
        "no-op CPU s": operator.cpu() - cpu,
        "no-op reconcile s": operator.metric("finetune_operator_reconcile_seconds_sum") - spent,
        "no-op wall s": seconds,
        "no-op writes": len(writes),
        "no-op wrote": writes[:5],
        "no-op load": procfs.load_average(),
    }


def restart(lab: Lab, operator: OperatorProcess, jobs: int) -> Figures:
    """A new process, after the former one was stopped."""
    lab.audit.read()
    first, began = len(lab.audit.calls), time.perf_counter()
    with operator:
        return started(lab, operator, jobs, began=began, first=first)


def started(lab: Lab, operator: OperatorProcess, jobs: int, *, began: float, first: int, active: int = 0) -> Figures:
    """From the start of the process (at `began`) until every FineTuneJob has been looked at."""
    ready = time.perf_counter() - began
    wait_passes(operator, jobs, 300)
    reconciled = time.perf_counter() - began
    cpu = operator.cpu()
    operator.settle(calm=1 if active else 5)
    writes = writes_since(lab, first, active)
    return {
        "restart to ready s": ready,
        "restart to reconciled s": reconciled,
        "restart CPU s": cpu,
        "restart RSS MiB": operator.memory()[0],
        "restart RSS peak MiB": operator.memory()[1],
        "restart load": procfs.load_average(),
        "restart writes": len(writes),
        "restart wrote": writes[:5],
    }
