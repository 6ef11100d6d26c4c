"""The command line. A user's mistake is answered in words and with a code of the table; a stack trace is a bug."""

from __future__ import annotations

import argparse
import shlex
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NoReturn

from finetune_api.exitcodes import ExitCode
from finetune_cli.access import named
from finetune_cli.place import Given
from finetune_cli.say import JSON, TEXT, Voice
from finetune_trainer.common.errors import RunError

CODES = """\
exit codes:
  0 done, 64 the manifest or the command line is wrong, 66 the data is wrong, 69 something is not there yet,
  70 failed, 71 out of memory, 72 diverged, 73 no valid checkpoint, 74 storage, 75 device, 76 gate failed, 77 hang,
  85 stopped and saved, 86 stopped, nothing new saved
"""
TOP = """\
examples:
  finetune validate -f job.yaml               what the API server would say, with the line
  finetune plan -f job.yaml                   batches, steps and memory, before anything runs
  finetune teach -f job.yaml --to answers     a teacher's answers as files
  finetune run -f job.yaml                    train, evaluate, gate and publish on this machine
"""
RUN = """\
examples:
  finetune run -f job.yaml
  finetune run -f job.yaml --processes 2 --set spec.training.maxSteps=10
  finetune run -f job.yaml --secret team-a-s3=team-a.env --volume datasets=/data
  finetune run -f job.yaml --output json > result.json

Ctrl-C once: the run stops at an agreed step, commits a checkpoint and exits 85. Twice: it ends at once (86).
The same command goes on from the newest committed checkpoint; a run that is published is not trained again.
The run is in DIR/<namespace>/<name>/<run key>, laid out as in a cluster.
"""
VALIDATE = """\
examples:
  finetune validate -f job.yaml -f deployment.yaml
  finetune validate -f job.yaml --data        also read the records: file, line and reason of the first bad one
  kustomize build . | finetune validate -f - --output json
"""
PLAN = """\
examples:
  finetune plan -f job.yaml
  finetune plan -f job.yaml --set spec.resources.nodes=4
  finetune plan -f job.yaml --output json
"""
TEACH = """\
examples:
  finetune teach -f job.yaml --to answers               the job's objective is Distill with a teacher
  finetune teach -f job.yaml --to answers --top-k 128

Copy the folder to your store, and name it as objective.distill.topK in the teacher's place.
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        print(f"{self.prog}: {message}; see {self.prog} --help", file=sys.stderr)
        sys.exit(int(ExitCode.INVALID_SPEC))


def parser() -> argparse.ArgumentParser:
    form = argparse.RawDescriptionHelpFormatter
    top = _Parser(
        prog="finetune",
        description="FineTuneJobs on this machine and in pipelines: the same manifests as in the cluster.",
        epilog=f"{TOP}\n{CODES}",
        formatter_class=form,
    )
    top.add_argument("--version", action="version", version=f"finetune {_version()}")
    commands = top.add_subparsers(dest="command", required=True, metavar="run|validate|plan|teach")
    for name, text, examples in (
        ("run", "train, evaluate, gate and publish a FineTuneJob on this machine", RUN),
        ("validate", "check manifests as the API server would, without one", VALIDATE),
        ("teach", "write a teacher's answers to a Distill job's records into files", TEACH),
        ("plan", "say what a FineTuneJob comes to: batches, steps, memory", PLAN),
    ):
        command = commands.add_parser(
            name, help=text, description=text, epilog=f"{examples}\n{CODES}", formatter_class=form
        )
        add = command.add_argument
        add("-f", "--filename", action="append", required=True, metavar="FILE", help="a manifest; - is stdin")
        add("--output", choices=(TEXT, JSON), default=TEXT, help="json: one document on stdout (default: text)")
        add(
            "--secret",
            action="append",
            default=[],
            metavar="NAME=FILE",
            help="a Secret of the manifest: KEY=value lines",
        )
        add("--volume", action="append", default=[], metavar="CLAIM=PATH", help="the directory for pvc://CLAIM")
        if name == "validate":
            add("--data", action="store_true", help="also read and check the training records")
            add("--local", action="store_true", help="allow paths without a scheme, as run and plan do")
            continue
        add("--name", help="which FineTuneJob, when there are several")
        add(
            "--set",
            action="append",
            default=[],
            metavar="PATH=VALUE",
            help="change a field, as spec.training.maxSteps=10",
        )
        add("--dir", type=Path, default=Path("runs"), metavar="DIR", help="where runs are kept (default: ./runs)")
        if name == "teach":
            add("--to", type=Path, required=True, metavar="FOLDER", help="a new folder for the files")
            add("--top-k", type=_positive, default=64, metavar="K", help="tokens kept at each target (default: 64)")
        if name == "run":
            add("--processes", type=_positive, metavar="N", help="default: all GPUs; on a CPU processesPerNode or 1")
            add("--no-publish", action="store_true", help="end after training")
    return top


def main(argv: list[str] | None = None) -> NoReturn:
    arguments = parser().parse_args(argv)
    voice = Voice(arguments.output)
    try:
        code = _dispatch(arguments, voice, argv)
    except RunError as error:
        code = int(error.code)
        for line in error.message.splitlines():
            voice.stage("wrong", line, "red")
        document = {"exitCode": code, "reason": error.reason, "message": error.message}
        voice.document(document)
    except KeyboardInterrupt:
        code = int(ExitCode.STOPPED_UNSAVED)
        voice.stage("ended", "stopped", "red")
    except BrokenPipeError:
        code = int(ExitCode.FAILED)
    sys.exit(code)


def _dispatch(arguments: argparse.Namespace, voice: Voice, argv: list[str] | None) -> int:
    given = Given(
        folder=getattr(arguments, "dir", Path("runs")),
        secrets=named("--secret", arguments.secret, "team-a-s3=team-a.env"),
        volumes=named("--volume", arguments.volume, "datasets=/data"),
    )
    if arguments.command == "validate":
        from finetune_cli.validate import validate

        return validate(arguments.filename, voice, given, local=arguments.local, data=arguments.data)
    if arguments.command == "plan":
        from finetune_cli.plan import plan

        return plan(arguments.filename, arguments.name, arguments.set, voice, given)
    if arguments.command == "teach":
        from finetune_cli import teach

        asked = teach.Options(
            arguments.filename, given, arguments.name, arguments.set, to=arguments.to, top_k=arguments.top_k
        )
        return teach.teach(asked, voice)
    from finetune_cli.run import Options, run

    words = sys.argv[1:] if argv is None else argv
    options = Options(
        files=arguments.filename,
        given=given,
        name=arguments.name,
        assignments=tuple(arguments.set),
        processes=arguments.processes,
        publish=not arguments.no_publish,
        command=shlex.join(["finetune", *words]),
    )
    return run(options, voice)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number from 1")
    return int(text)


def _version() -> str:
    try:
        return version("finetune-operator")
    except PackageNotFoundError:
        return "unknown"
