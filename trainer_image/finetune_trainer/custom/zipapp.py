"""Writes the launcher of custom trainers as one file: `python -m finetune_trainer.custom.zipapp TARGET`.

An init container runs this in our image; the user's image runs the file. It holds the few modules that need the
standard library only, and the callback for scripts, which needs torch and transformers of that image.
"""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import finetune_api
import finetune_trainer

MODULES = (
    "finetune_api/__init__.py",
    "finetune_api/duration.py",
    "finetune_api/exitcodes.py",
    "finetune_api/pod.py",
    "finetune_trainer/__init__.py",
    "finetune_trainer/common/__init__.py",
    "finetune_trainer/common/channel.py",
    "finetune_trainer/common/clock.py",
    "finetune_trainer/common/files.py",
    "finetune_trainer/common/log.py",
    "finetune_trainer/foreign/__init__.py",
    "finetune_trainer/foreign/exchange.py",
    "finetune_trainer/foreign/http.py",
    "finetune_trainer/foreign/launcher.py",
    "finetune_trainer/foreign/ranks.py",
    "finetune_trainer/foreign/start.py",
    "finetune_trainer/foreign/verdict.py",
    "finetune_trainer/foreign/words.py",
    "finetune_trainer/integrations/__init__.py",
    "finetune_trainer/integrations/hf.py",
    "finetune_trainer/integrations/script.py",
    "finetune_trainer/launcher/__init__.py",
    "finetune_trainer/launcher/endpoints.py",
    "finetune_trainer/launcher/hang.py",
    "finetune_trainer/launcher/tee.py",
)
ENTRY = "from finetune_trainer.foreign.start import main\n\nmain()\n"


def sources() -> Iterator[tuple[str, Path]]:
    """(name in the archive, file) of every module that travels."""
    rooms = {module.__name__: Path(str(module.__file__)).parent.parent for module in (finetune_api, finetune_trainer)}
    return ((name, rooms[name.split("/", 1)[0]] / name) for name in MODULES)


def write(target: Path) -> Path:
    """The same bytes for the same sources. Returns `target`, whose folder is made."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in (("__main__.py", ENTRY), *((name, path.read_text()) for name, path in sources())):
            entry = zipfile.ZipInfo(name)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content)
    target.chmod(0o755)
    return target


def main() -> None:
    print(f"launcher written to {write(Path(sys.argv[1]))}", flush=True)


if __name__ == "__main__":
    main()
