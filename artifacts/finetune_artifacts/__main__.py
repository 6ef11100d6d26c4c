"""`python -m finetune_artifacts`: look at and move artifacts by hand, or from an init container."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from . import ArtifactError, InvalidUri, NotFound, open_source, open_store, show_progress, split_uri
from .progress import amount
from .transfer import local_files

USAGE, MISSING, STORAGE = 64, 66, 74
EXAMPLES = """examples:
  python -m finetune_artifacts ls s3://team-a/support
  python -m finetune_artifacts cat s3://team-a/runs/support-bot/attempts/1/exit-0.json
  python -m finetune_artifacts cp ./model s3://team-a/models/base            # a directory, recursively
  python -m finetune_artifacts cp s3://team-a/models/base /models/base      # continues where it was interrupted
  python -m finetune_artifacts cp pvc://datasets/train.jsonl /tmp/train.jsonl --digest xxh3:…

exit codes: 0 done, 64 usage or a wrong URI, 66 not found, 74 storage, access or digest
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"{self.prog}: {message}\n{self.format_usage()}")


def parser() -> argparse.ArgumentParser:
    common = _Parser(add_help=False)
    common.add_argument("--credentials", type=Path, metavar="DIR", help="a mounted Secret (default: the environment)")
    common.add_argument("--mounts", type=Path, metavar="DIR", help="where claims are mounted (default: /mnt/pvc)")
    top = _Parser(
        prog="python -m finetune_artifacts",
        description="List, print and copy artifacts at s3://, pvc:// and file:// URIs.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="{ls,cat,cp}")
    ls = commands.add_parser("ls", parents=[common], help="list objects below a URI: size, time, path")
    ls.add_argument("uri")
    cat = commands.add_parser("cat", parents=[common], help="write one object to standard output")
    cat.add_argument("uri")
    cp = commands.add_parser("cp", parents=[common], help="copy between a local path and a URI, files or directories")
    cp.add_argument("source")
    cp.add_argument("target")
    cp.add_argument("--digest", help="refuse a downloaded file that does not match xxh3:<hex> or sha256:<hex>")
    cp.add_argument("--workers", type=int, default=4, help="files at a time (default: 4)")
    return top


def _copy(args: argparse.Namespace) -> None:
    where = {"credentials": args.credentials, "mounts": args.mounts}
    down, up = "://" in args.source, "://" in args.target
    if down == up:
        raise InvalidUri(args.target, "copy to", "one side must be a local path and the other a URI", "see --help")
    if up:
        local = Path(args.source)
        if local.is_dir():
            total = sum((local / path).stat().st_size for path in local_files(local))
            with show_progress(f"upload {local.name}", total) as report:
                open_store(args.target, **where).upload_tree(local, "", workers=args.workers, progress=report)
            return
        if not local.is_file():
            raise NotFound(args.source, "copy", "no such file or directory", "check the path")
        above, name = split_uri(args.target)
        with show_progress(f"upload {local.name}", local.stat().st_size) as report:
            open_store(above, **where).upload_file(local, name, progress=report)
        return
    store, entries = open_source(args.source, **where)
    target, total = Path(args.target), sum(entry.size for entry in entries)
    single = len(entries) == 1 and store.uri != args.source.rstrip("/")
    if args.digest and not single:
        raise InvalidUri(args.source, "copy", "--digest is for a single object", "leave it out for a directory")
    with show_progress(f"download {args.source}", total) as report:
        if single:
            local = target / entries[0].path if target.is_dir() else target
            store.download_file(entries[0].path, local, digest=args.digest, progress=report)
        else:
            store.download_tree("", target, workers=args.workers, progress=report)


def _run(args: argparse.Namespace) -> None:
    where = {"credentials": args.credentials, "mounts": args.mounts}
    if args.command == "ls":
        for entry in open_source(args.uri, **where)[1]:
            sys.stdout.write(f"{amount(entry.size):>10}  {entry.modified:%Y-%m-%d %H:%M:%S}  {entry.path}\n")
    elif args.command == "cat":
        above, name = split_uri(args.uri)
        for chunk in open_store(above, **where).open_read(name):
            sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
    else:
        _copy(args)


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        _run(args)
    except (ArtifactError, OSError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        if isinstance(error, InvalidUri | ValueError):
            return USAGE
        return MISSING if isinstance(error, NotFound) else STORAGE
    return 0


if __name__ == "__main__":
    sys.exit(main())
