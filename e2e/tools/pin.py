"""Write or move the Go module that pins one tool: `python -m e2e.tools.pin TOOL MODULE VERSION PACKAGE…`,
for example `… pin helm helm.sh/helm/v4 v4.3.1 cmd/helm`.

A module of its own per tool keeps each tool on exactly the dependency versions that its authors released it
with: their go.sum is copied first, their `replace` lines are repeated, and a replacement by a folder inside
their repository becomes a replacement by the module published from that folder. Needed only to move a pin;
builds use the committed files. Without a PACKAGE the
folder's own main.go says what is imported.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def go(*args: str, cwd: Path) -> str:
    return subprocess.run(["go", *args], cwd=cwd, check=True, stdout=subprocess.PIPE, text=True).stdout


def published_version(version: str) -> str:
    """The staging modules of Kubernetes v1.X.Y are published as v0.X.Y."""
    return "v0" + version.removeprefix("v1")


def replacement(replace: dict[str, dict[str, str]], version: str, folder: Path) -> str | None:
    old, new = replace["Old"]["Path"], replace["New"]
    if new["Path"].startswith("./staging/"):
        return f"{old} => {old} {published_version(version)}"
    if new["Path"].startswith(".") and (folder / Path(new["Path"]).name / "go.mod").exists():
        return f"{old} => ./{Path(new['Path']).name}"  # never published: a stand-in of ours lies beside go.mod
    if new["Path"].startswith("."):
        return None  # a sibling module of a multi-module repository: its requirement already names the release
    return f"{old} => {new['Path']} {new['Version']}"


def pin(tool: str, module: str, version: str, packages: list[str]) -> None:
    folder = HERE / tool
    folder.mkdir(exist_ok=True)
    info = json.loads(go("mod", "download", "-json", f"{module}@{version}", cwd=HERE))
    upstream = json.loads(go("mod", "edit", "-json", info["GoMod"], cwd=HERE))
    lines = [
        f"module finetune.test/e2e/tools/{tool}",
        "",
        f"go {upstream['Go']}",
        "",
        f"require {module} {version}",
    ]
    replaces = [replacement(r, version, folder) for r in upstream.get("Replace") or []]
    if any(replaces):
        lines += ["", "replace (", *(f"\t{r}" for r in replaces if r), ")"]
    excludes = upstream.get("Exclude") or []
    if excludes:
        lines += ["", "exclude (", *(f"\t{e['Path']} {e['Version']}" for e in excludes), ")"]
    (folder / "go.mod").write_text("\n".join(lines) + "\n")
    shutil.copyfile(Path(info["Dir"]) / "go.sum", folder / "go.sum")
    (folder / "go.sum").chmod(0o644)
    imports = "\n".join(f'\t_ "{module}/{p}"' if p != "." else f'\t_ "{module}"' for p in packages)
    if packages:
        (folder / "tools.go").write_text(f"//go:build tools\n\npackage tools\n\nimport (\n{imports}\n)\n")
    go("mod", "tidy", cwd=folder)


if __name__ == "__main__":
    pin(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:])
