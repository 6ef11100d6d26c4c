"""The shape of the repository that tools and newcomers rely on."""

from __future__ import annotations

import ast
import importlib
import inspect
import operator as stdlib_operator
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
ROOMS = ("operator", "crds", "artifacts", "trainer_image", "cli")
PACKAGES = {
    "finetune_api": REPO / "crds" / "finetune_api",
    "finetune_artifacts": REPO / "artifacts" / "finetune_artifacts",
    "finetune_operator": REPO / "operator" / "finetune_operator",
    "finetune_trainer": REPO / "trainer_image" / "finetune_trainer",
    "finetune_cli": REPO / "cli" / "finetune_cli",
}
MAX_LINES = 300
PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text())
VERSION = PROJECT["project"]["version"]


def modules(*roots: Path) -> list[Path]:
    return sorted(p for root in roots for p in root.rglob("*.py") if "__pycache__" not in p.parts)


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module or ""


def test_rooms_are_not_packages() -> None:
    assert [room for room in ROOMS if (REPO / room / "__init__.py").exists()] == []


def test_the_standard_librarys_operator_is_still_itself() -> None:
    assert stdlib_operator.itemgetter(1)("ab") == "b"
    assert not str(stdlib_operator.__file__).startswith(str(REPO / "operator"))


@pytest.mark.parametrize("path", modules(*PACKAGES.values()), ids=lambda p: str(p.relative_to(REPO)))
def test_no_module_is_long(path: Path) -> None:
    count = len(path.read_text().splitlines())
    assert count <= MAX_LINES, f"{count} lines; split it (the rule is {MAX_LINES})"


@pytest.mark.parametrize("path", modules(*PACKAGES.values()), ids=lambda p: str(p.relative_to(REPO)))
def test_every_module_says_why_it_exists(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert path.name in ("__init__.py", "__main__.py") or not tree.body or ast.get_docstring(tree), (
        "no module docstring"
    )


def test_kopf_is_imported_in_exactly_one_module() -> None:
    users = [p for p in modules(*PACKAGES.values()) if any(n.split(".")[0] == "kopf" for n in imported(p))]
    assert len(users) == 1, users
    assert users[0].parent.name == "shell"


def test_core_reads_no_clock_and_does_no_io() -> None:
    core = modules(PACKAGES["finetune_operator"] / "core")
    assert core
    forbidden = {"time", "asyncio", "aiohttp", "random", "secrets", "kopf", "kubernetes", "socket", "os", "logging"}
    clock = re.compile(r"\b(datetime\.(now|utcnow|today)|date\.today|time\.(time|monotonic)|uuid[14])\(")
    for path in core:
        assert not forbidden & {n.split(".")[0] for n in imported(path)}, path
        assert not clock.search(path.read_text()), path


def test_the_operator_imports_no_torch_and_no_storage() -> None:
    forbidden = {"torch", "transformers", "peft", "obstore", "finetune_artifacts", "finetune_trainer"}
    for path in modules(PACKAGES["finetune_operator"]):
        assert not forbidden & {n.split(".")[0] for n in imported(path)}, path


def test_no_pickle_in_the_data_plane() -> None:
    for path in modules(*PACKAGES.values()):
        assert not {"pickle", "cloudpickle", "dill", "joblib"} & set(imported(path)), path
        assert "weights_only=False" not in path.read_text(), path


def test_the_wheel_holds_exactly_our_packages() -> None:
    listed = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert sorted(REPO / p for p in listed) == sorted(PACKAGES.values())


def test_names_of_objects_and_labels_live_in_one_place() -> None:
    """`finetune.dev/...` is spelled in core/names.py; everybody else imports it."""
    home = PACKAGES["finetune_operator"] / "core" / "names.py"
    spelled = re.compile(r"""["']finetune\.dev/(?!v1alpha1)""")
    offenders = [p for p in modules(PACKAGES["finetune_operator"]) if p != home and spelled.search(p.read_text())]
    assert offenders == []


def test_changelog_starts_with_the_version() -> None:
    headings = re.findall(r"^## \[?([0-9][^\]\s]*)", (REPO / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings
    assert headings[0] == VERSION


def test_the_chart_has_the_version() -> None:
    chart = (REPO / "helm" / "finetune-operator" / "Chart.yaml").read_text()
    assert re.search(r"^version: (.+)$", chart, re.MULTILINE)[1] == VERSION  # type: ignore[index]
    assert re.search(r'^appVersion: "(.+)"$', chart, re.MULTILINE)[1] == VERSION  # type: ignore[index]


def test_the_license_is_whole() -> None:
    text = (REPO / "LICENSE").read_text()
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_the_lock_file_is_in_step() -> None:
    if not shutil.which("uv"):
        pytest.skip("uv is not at hand; `uv lock --check` tells")
    done = subprocess.run(["uv", "lock", "--check", "--offline"], cwd=REPO, text=True, capture_output=True)
    if "cache" in done.stderr and done.returncode:
        pytest.skip("uv cannot check the lock file offline on this machine")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", PACKAGES)
def test_exported_names(name: str) -> None:
    """A package that exports names lists them all, sorted out from what it merely imports."""
    module = importlib.import_module(name)
    public = {n for n, value in vars(module).items() if not n.startswith("_") and not inspect.ismodule(value)}
    exported = set(getattr(module, "__all__", ()))
    assert public - {"annotations"} == exported
