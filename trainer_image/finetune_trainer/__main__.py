"""`finetune-trainer preflight|train|accompany|publish|verify|fetch|check`: the data plane's one entry point.

Life cycle only. Each subcommand imports what it needs and no more: all but train and publish run from the small image,
where there is no torch.
"""

from __future__ import annotations

from finetune_trainer.common import signals

if signals.is_entry_point():
    signals.listen()

import argparse
import os
import sys
from pathlib import Path

from finetune_api import runconfig as rc
from finetune_api.base import WireModel
from finetune_api.reports import LastWords, PreflightReport, PublishReport
from finetune_api.runconfig import RunConfig
from finetune_api.serveconfig import CheckReport, FetchReport, ServeConfig, VerifyReport
from finetune_trainer.common import log
from finetune_trainer.common.clock import timestamp
from finetune_trainer.common.config import load, load_config, pod_index
from finetune_trainer.common.errors import RunError
from finetune_trainer.common.lastwords import write_termination

SERVING: dict[str, type[VerifyReport | FetchReport | CheckReport]] = {
    "verify": VerifyReport,
    "fetch": FetchReport,
    "check": CheckReport,
}
EXAMPLES = """\
examples:
  finetune-trainer preflight                       the config is at /etc/finetune/run.json
  finetune-trainer train --config run.json         one pod of an attempt, by hand
  FINETUNE_SCRATCH_DIR=/tmp/run finetune-trainer publish --config run.json
  FINETUNE_MODEL_DIR=/tmp/model finetune-trainer fetch --config serve.json

exit codes: 0 done, 64 invalid spec, 66 invalid data, 69 waiting (preflight), 70 failed, 71 out of memory, 72 diverged,
73 no valid checkpoint, 74 storage, 75 device, 76 gate failed, 77 hang, 85 stopped and saved, 86 stopped, nothing saved
"""


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="finetune-trainer",
        description="The data plane: checks inputs, trains, publishes; verifies, fetches and checks what is served.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(
        dest="command", required=True, metavar="|".join(["preflight|train|accompany|publish", *SERVING])
    )
    for name, help_text in (
        ("preflight", "check storage, data, model and memory before a GPU is taken; no torch needed"),
        ("train", "be PID 1 of a trainer pod: fence, fetch, run the ranks, stop together, last words"),
        ("accompany", "hold the storage of a custom trainer's pod: fence, fetch, commit, keep; no torch needed"),
        ("publish", "evaluate, merge, gate and upload the newest checkpoint's model"),
        ("verify", "is a model the one that was published, whole, and did it pass its gate; no torch needed"),
        ("fetch", "bring a published model into an engine's folder, every byte checked; no torch needed"),
        ("check", "ask a running engine before it gets traffic, and the stable one beside it; no torch needed"),
    ):
        command = commands.add_parser(name, help=help_text, description=help_text)
        command.add_argument(
            "--config",
            type=Path,
            metavar="FILE",
            help=f"the pod's config (default: ${rc.CONFIG_ENV} or {rc.CONFIG_PATH})",
        )
        if name == "publish":
            command.add_argument(
                "--part",
                choices=("all", "prepare", "finish"),
                default="all",
                help="prepare: up to the checked folder; finish: gate and upload it; between them a serving image may "
                "be asked (default: all)",
            )
    return top


def main(argv: list[str] | None = None) -> None:
    arguments = parser().parse_args(argv)
    if arguments.config is not None:
        os.environ[rc.CONFIG_ENV] = str(arguments.config.resolve())
    config: RunConfig | None = None
    try:
        if arguments.command in SERVING:
            code = serve(arguments.command, load(ServeConfig, "serving config"))
        else:
            config = load_config()
            code = run(arguments.command, config, part=getattr(arguments, "part", "all"))
    except RunError as error:
        log.error(error.message, reason=error.reason, exit_code=int(error.code))
        write_termination(_report(arguments.command, config, error))
        code = int(error.code)
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads of libraries must not keep a pod alive that has said its last word.
    os._exit(code)


def run(command: str, config: RunConfig, *, part: str = "all") -> int:
    """`part` is publish's."""
    if command == "accompany":
        from finetune_trainer.custom.companion import accompany

        return accompany(config)
    if command != "train":
        signals.end_at_once()
    if command == "preflight":
        from finetune_trainer.preflight.main import preflight

        return preflight(config)
    if command == "publish" and config.spec.is_custom:
        from finetune_trainer.custom.publish import publish_custom

        return publish_custom(config)
    if command == "publish":
        from finetune_trainer.publish.main import Part, publish

        return publish(config, Part(part))
    from finetune_trainer.launcher.main import train

    return train(config)


def serve(command: str, config: ServeConfig) -> int:
    # An engine's pod has minutes of grace.
    signals.end_at_once()
    if command == "verify":
        from finetune_trainer.serve.verify import verify

        return verify(config)
    if command == "fetch":
        from finetune_trainer.serve.fetch import fetch

        return fetch(config)
    from finetune_trainer.serve.check import check

    return check(config)


def _report(command: str, config: RunConfig | None, error: RunError) -> WireModel:
    """What the operator reads, in the form it expects from each command."""
    known = {"exit_code": int(error.code), "reason": error.reason, "message": error.message, "at": timestamp()}
    if command == "preflight":
        return PreflightReport.model_validate(known | {"field": getattr(error, "field", None)})
    if command == "publish":
        return PublishReport.model_validate(known)
    if command in SERVING:
        return SERVING[command].model_validate(known)
    attempt = config.attempt if config else 0
    return LastWords.model_validate(known | {"attempt": attempt, "index": pod_index()})


if __name__ == "__main__":
    main()
