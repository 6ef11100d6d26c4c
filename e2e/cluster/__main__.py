"""`python -m e2e.cluster up|down|status|env`: the cluster of `make cluster-up` and `make cluster-down`."""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from types import ModuleType

from e2e.cluster import bare, chart, check, kind
from e2e.cluster.cluster import Cluster
from e2e.cluster.host import Unfit
from e2e.cluster.process import NotUp
from e2e.images.buildah import BuildFailed
from e2e.tools.lock import exclusively
from e2e.tools.progress import Progress


def way(wanted: str) -> ModuleType:
    """kind where a Docker engine answers, plain binaries otherwise."""
    if wanted == "auto":
        wanted = "kind" if kind.engine_answers() else "bare"
    return {"bare": bare, "kind": kind}[wanted]


def up(driver: ModuleType, progress: Progress, *, with_chart: bool, with_check: bool) -> None:
    cluster: Cluster = driver.up(progress)
    if with_check:
        with progress.step("check: two pods on two nodes, names, ClusterIP, store"):
            check.run(cluster)
    if with_chart and (chart.CHART / "Chart.yaml").exists():
        with progress.step("install the chart"):
            chart.install(cluster)
    print(f"\nThe cluster is up ({progress.seconds:.0f} s). Its kubectl, helm and credentials, for this shell:\n")
    print('    eval "$(.venv/bin/python -m e2e.cluster env)"\n')


def environment(cluster: Cluster) -> None:
    for name, value in cluster.environment().items():
        print(f"export {name}={shlex.quote(value)}")


def status(driver: ModuleType) -> int:
    lines = driver.status()
    for name, state in lines:
        print(f"{name:28} {state}")
    try:
        print(Cluster.current().kubectl("get", "nodes", "-o", "wide"))
    except NotUp as error:
        print(error)
        return 1
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m e2e.cluster", description=__doc__)
    parser.add_argument("command", choices=["up", "down", "status", "env"])
    parser.add_argument("--way", choices=["auto", "bare", "kind"], default="auto")
    parser.add_argument("--no-chart", action="store_true", help="leave the operator's chart alone")
    parser.add_argument("--no-check", action="store_true", help="skip the acceptance check")
    arguments = parser.parse_args()
    driver, progress = way(arguments.way), Progress()
    try:
        match arguments.command:
            case "up":
                with exclusively("cluster", progress):
                    up(driver, progress, with_chart=not arguments.no_chart, with_check=not arguments.no_check)
            case "down":
                with exclusively("cluster", progress):
                    driver.down(progress)
            case "env":
                environment(Cluster.current())
            case "status":
                return status(driver)
    except (NotUp, Unfit, BuildFailed) as error:
        print(error, file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        command = shlex.join(str(part) for part in error.cmd)
        print(f"{command}\nfailed with exit code {error.returncode}: {error.stderr or error.stdout}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
