"""`results.json` keeps the newest figures of each scenario; `RESULTS.md` is written from it, never by hand.

What people found out from the figures stands in `FINDINGS.md` and is copied to the end.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.check import derived
from e2e import tools

HERE = Path(__file__).parent
RESULTS, REPORT, FINDINGS = HERE / "results.json", HERE / "RESULTS.md", HERE / "FINDINGS.md"
Figures = Mapping[str, Any]


@dataclass(frozen=True)
class Target:
    """One line of the first table. `good` decides the verdict; None where only a ratio can be judged."""

    what: str
    wanted: str
    scenario: str
    show: Callable[[Figures], str]
    good: Callable[[Figures], bool]


def _bursts() -> list[Target]:
    rows = []
    for name, jobs, mode, floor in (
        ("burst-1000-queued", "1,000", "no pods", 50),
        ("burst-1000-pods", "1,000", "with pods", 20),
        ("burst-10000-queued", "10,000", "no pods", 50),
        ("burst-10000-pods", "10,000", "with pods", 20),
    ):
        rows += [
            Target(
                f"{jobs} at once, {mode}: apply → Job",
                f"≥ {floor} jobs/s",
                name,
                lambda f: (
                    f"{f['Job jobs/s']:.1f} jobs/s; with every write counted, "
                    f"{100 * f['share of raw creates']:.0f} % of {f['raw creates/s']:.0f} plain creates/s"
                ),
                lambda f, floor=floor: f["Job jobs/s"] >= floor,  # type: ignore[misc]
            ),
            Target(
                f"{jobs} at once, {mode}: apply → first child",
                "(reported)",
                name,
                lambda f: f"{f['first child jobs/s']:.1f} jobs/s",
                lambda f: True,
            ),
            Target(
                f"{jobs} at once, {mode}: operator CPU per job until its Job stands",
                "≤ 15 ms",
                name,
                lambda f: f"{f['operator CPU ms/job']:.1f} ms",
                lambda f: f["operator CPU ms/job"] <= 15,
            ),
            Target(
                f"{jobs} at once, {mode}: API writes per job until its Job stands",
                "≤ 6",
                name,
                lambda f: f"{f['writes/job']:.2f}, and {f['Events/job']:.2f} Events",
                lambda f: f["writes/job"] <= 6,
            ),
        ]
    return rows


TARGETS = [
    *_bursts(),
    Target(
        "2 jobs/s: apply → Job, p99",
        "≤ 60 ms",
        "reaction",
        lambda f: f"{f['apply to Job p99 ms']:.0f} ms (p50 {f['apply to Job p50 ms']:.0f} ms)",
        lambda f: f["apply to Job p99 ms"] <= 60,
    ),
    Target(
        "of that, without scheduler and kwok running the preflight pod",
        "(reported)",
        "reaction",
        lambda f: (
            f"{f['operator share of apply to Job p99 ms']:.0f} ms "
            f"(p50 {f['operator share of apply to Job p50 ms']:.0f} ms)"
        ),
        lambda f: True,
    ),
    Target(
        "10,000 held, 1,000 of them active: memory",
        "≤ 512 MiB",
        "held-10000",
        lambda f: f"{f['events RSS MiB']:.0f} MiB; peak while starting {f['restart RSS peak MiB']:.0f}",
        lambda f: max(f["events RSS MiB"], f["restart RSS peak MiB"]) <= 512,
    ),
    Target(
        "10,000 held: no-op pass over all",
        "≤ 0.5 s, 0 writes",
        "held-10000",
        lambda f: f"{f['no-op CPU s']:.2f} s CPU, {f['no-op wall s']:.2f} s, {f['no-op writes']} writes",
        lambda f: f["no-op CPU s"] <= 0.5 and f["no-op writes"] == 0,
    ),
    Target(
        "10,000 held: restart → reconciled",
        "≤ 10 s",
        "held-10000",
        lambda f: (
            f"{f['restart to reconciled s']:.1f} s ({f['restart CPU s']:.1f} s CPU), {f['restart writes']} writes"
        ),
        lambda f: f["restart to reconciled s"] <= 10,
    ),
    Target(
        "event → status, p99, 1,000 active jobs",
        "≤ 1 s",
        "burst-1000-pods",
        lambda f: f"{f['pod deleted to status p99 ms']:.0f} ms (p50 {f['pod deleted to status p50 ms']:.0f})",
        lambda f: f["pod deleted to status p99 ms"] <= 1000,
    ),
    Target(
        "event → status, p99, 10,000 FineTuneJobs held, 1,000 of them active",
        "≤ 5 s",
        "held-10000",
        lambda f: f"{f['pod deleted to status p99 ms']:.0f} ms (p50 {f['pod deleted to status p50 ms']:.0f})",
        lambda f: f["pod deleted to status p99 ms"] <= 5000,
    ),
]


TARGETS += [
    Target(
        "1,000 ModelDeployments at once: rollouts",
        "(reported)",
        "rollouts-1000",
        lambda f: (
            f"{f['rollouts/min']:.0f} a minute; first revisions {f['first revisions/min']:.0f} a minute; operator CPU "
            f"{f['rollouts: operator CPU ms each']:.0f} ms, {f['rollouts: API writes each']:.1f} API writes a rollout"
        ),
        lambda f: True,
    ),
    Target(
        "decision stored → weight on the route, 1,000 ModelDeployments rolling out",
        "(reported)",
        "rollouts-1000",
        lambda f: (
            f"p50 {f['rollouts: decision to route p50 ms']:.0f} ms, "
            f"p99 {f['rollouts: decision to route p99 ms']:.0f} ms"
        ),
        lambda f: True,
    ),
    Target(
        "weight on the route → at the data plane (Traefik)",
        "(reported)",
        "gateway",
        lambda f: (
            f"p50 {f['route written to first answer p50 ms']:.0f} ms, "
            f"p99 {f['route written to first answer p99 ms']:.0f} ms"
        ),
        lambda f: True,
    ),
    Target(
        "requests/s through the Gateway, 16 connections, a backend of no cost",
        "(reported)",
        "gateway",
        lambda f: (
            f"{f['Gateway, 16 connections: requests/s']:,.0f} (p50 {f['Gateway, 16 connections: p50 ms']:.1f} ms) "
            f"against {f['direct, 16 connections: requests/s']:,.0f} direct "
            f"({f['direct, 16 connections: p50 ms']:.1f} ms)"
        ),
        lambda f: True,
    ),
]


def load() -> dict[str, Any]:
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def stamped(name: str, figures: Figures) -> dict[str, Any]:
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": f"python -m bench {name}",
        "machine": machine(),
        "figures": dict(figures),
    }


def machine() -> str:
    """Cores, memory, system; no name of a host."""
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    return f"{os.cpu_count()} cores, {gib:.0f} GiB, {system}"


def write(results: Mapping[str, Any]) -> None:
    RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    findings = FINDINGS.read_text() if FINDINGS.exists() else ""
    REPORT.write_text(render(results, findings))


def render(results: Mapping[str, Any], findings: str) -> str:
    parts = [_HEAD.format(versions=_versions()), _targets(results), "## All figures\n", *_details(results), findings]
    return "\n".join(part.rstrip("\n") + "\n" for part in parts if part)


_HEAD = """\
# Benchmark results

Written by `make bench` (`python -m bench`) from `bench/results.json`; do not edit.
A real etcd (no fsync), kube-apiserver, controller-manager and scheduler, fake nodes and pods by kwok, a stub that
answers progress polls for every fake pod, the load generator and the operator all share the machine. The operator is
one process with the chart's environment, service account and roles, leader election on. {versions}.
`gateway` alone is measured on the real cluster (`make cluster-up`), with Traefik as the chart installs it.

Times come from the API server's audit log, CPU from /proc, writes from the audit log (leases left out). Clock times
depend on what else the machine does: the load average stands beside them. Only counts are checked
(`bench/thresholds.yaml`).
"""


def _versions() -> str:
    pinned = [tools.path(name).parent.name.replace("@", " ") for name in ("kube-apiserver", "etcd", "kwok")]
    return (
        f"{', '.join(pinned)}, Python {platform.python_version()}, Kopf {version('kopf')}, aiohttp {version('aiohttp')}"
    )


def _targets(results: Mapping[str, Any]) -> str:
    lines = ["| what | target | measured | verdict |", "|---|---|---|---|"]
    for target in TARGETS:
        if target.scenario not in results:
            lines.append(f"| {target.what} | {target.wanted} | not measured | |")
            continue
        figures = derived(results[target.scenario]["figures"])
        verdict = "" if target.wanted == "(reported)" else "met" if target.good(figures) else "**missed**"
        load = figures.get("load", 0.0)
        lines.append(f"| {target.what} | {target.wanted} | {target.show(figures)}; load {load:.0f} | {verdict} |")
    return "\n".join(lines) + "\n"


def _details(results: Mapping[str, Any]) -> list[str]:
    out = []
    for name, result in results.items():
        when = f"`{result['command']}`, {result['machine']}, {result['date']}."
        head = f"### {name}\n\n{when}\n\n| figure | value |\n|---|---|"
        rows = [f"| {key} | {_shown(value)} |" for key, value in sorted(derived(result["figures"]).items())]
        out.append("\n".join([head, *rows]) + "\n")
    return out


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k}: {_shown(v)}" for k, v in value.items()) or "none"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
