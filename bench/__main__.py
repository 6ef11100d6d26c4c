"""`python -m bench`: see --help."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from bench import check, report, sandbox
from bench.lab import BINARIES
from bench.sandbox import NoSandbox
from bench.scenarios import QUICK, SCENARIOS, Scenario
from e2e import tools
from e2e.cluster import NotUp

_EXAMPLES = """\
examples:
  everything, about half an hour on two cores; rewrites bench/RESULTS.md:
    python -m bench
  only some of it; the rest of bench/RESULTS.md stays as it was:
    python -m bench reaction burst-1000-pods
  does all of it work, with 100 jobs, in a minute; writes nothing, fails when a count is over bench/thresholds.yaml:
    python -m bench --quick
  where the operator's time goes:
    python -m bench burst-1000-queued --profile operator.prof --keep-results
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measures finetune-operator against a real etcd, API server, controller-manager and scheduler, "
        "with kwok's fake nodes and pods, on this machine.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = ", ".join(SCENARIOS)
    parser.add_argument("scenario", nargs="*", help=f"which to run; default all: {names}")
    parser.add_argument("--quick", action="store_true", help="100 jobs each, nothing written, counts checked")
    parser.add_argument("--keep-results", action="store_true", help="leave bench/RESULTS.md and results.json alone")
    parser.add_argument("--profile", type=Path, metavar="FILE", help="run the operator under cProfile")
    parser.add_argument("--server-profile", type=Path, metavar="FILE", help="20 s of the API server's CPU profile")
    parser.add_argument("--jobs", type=int, metavar="N", help="another number of FineTuneJobs; implies --keep-results")
    return parser


def main() -> int:
    arguments = _parser().parse_args()
    table = QUICK if arguments.quick else SCENARIOS
    unknown = sorted(set(arguments.scenario) - set(table))
    if unknown:
        print(f"no such scenario: {', '.join(unknown)}; there are {', '.join(table)}", file=sys.stderr)
        return 2
    try:
        if not sandbox.inside():
            tools.ensure(*BINARIES)
            sandbox.enter(sys.argv[1:])
        sandbox.prepare()
        return _run([table[name] for name in arguments.scenario or table], arguments)
    except (NoSandbox, NotUp) as error:
        print(error, file=sys.stderr)
        return 1


def _run(scenarios: list[Scenario], arguments: argparse.Namespace) -> int:
    keep = arguments.quick or arguments.keep_results or arguments.jobs is not None
    if arguments.jobs is not None:
        scenarios = [replace(s, jobs=arguments.jobs) for s in scenarios]
    results = {} if arguments.quick else report.load()
    problems: list[str] = []
    for scenario in scenarios:
        print(f"== {scenario.name}: {scenario.words}", flush=True)
        with tempfile.TemporaryDirectory(prefix="finetune-bench-") as folder:
            figures = asyncio.run(scenario.run(Path(folder), arguments.profile, arguments.server_profile))
        results[scenario.name] = report.stamped(scenario.name, figures)
        print(json.dumps(figures, indent=2), flush=True)
        problems += [f"{scenario.name}: {p}" for p in check.problems(figures)]
        if not keep:
            report.write(results)
    for problem in problems:
        print(f"over the threshold: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
