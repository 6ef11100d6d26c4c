"""Every command in the documentation is run, or at least names things that exist."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.cluster import ApiServer
from tests.chart.helm import Helm, Refused
from tests.crds import OURS, crd
from tests.docs.console import KINDS, REPO, Command, all_commands, pages

FENCE = re.compile(r"^```(\S*)", re.MULTILINE)
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")


@pytest.fixture(scope="module")
def bed(namespaces: ApiServer) -> Iterator[ApiServer]:
    """Where a reader is: the demo's examples applied in `demo`, nothing yet in `team-a`."""
    for example in ("01-finetune", "03-gate-fails", "05-serve", "08-manual-pause"):
        namespaces.kubectl("create", "-f", str(REPO / "examples" / f"{example}.yaml"))
    yield namespaces
    for name in ("demo", "team-a"):
        namespaces.kubectl("-n", name, "delete", "finetunejobs,modeldeployments", "--all")


def answers(command: Command, output: str) -> None:
    for line in command.answer:
        assert line in output, f"{command}\nthe page promises: {line}\nit says: {output}"


@pytest.mark.parametrize("page", pages(), ids=lambda p: str(p.relative_to(REPO)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text()):
        assert (page.parent / target).exists(), f"{target} is not there"


@pytest.mark.parametrize("page", pages(), ids=lambda p: str(p.relative_to(REPO)))
def test_fences_are_closed_and_say_their_language(page: Path) -> None:
    fences = FENCE.findall(page.read_text())
    assert len(fences) % 2 == 0
    assert all(fences[::2]), "a code block without a language"


@pytest.mark.parametrize("folder", ["design"])
def test_every_note_is_in_its_index(folder: str) -> None:
    notes = {p.name for p in (REPO / "docs" / folder).glob("*.md")} - {"README.md"}
    assert notes <= set(LINK.findall((REPO / "docs" / folder / "README.md").read_text()))


def test_every_guide_is_reached_from_the_readme() -> None:
    seen: set[Path] = set()
    ahead = [REPO / "README.md"]
    while ahead:
        page = ahead.pop()
        if page not in seen and page.suffix == ".md":
            seen.add(page)
            ahead += [(page.parent / target).resolve() for target in LINK.findall(page.read_text())]
    assert set((REPO / "docs").rglob("*.md")) <= seen


def test_commands_are_found_and_their_kinds_known() -> None:
    found = all_commands()
    assert len(found) > 40
    assert {c.kind for c in found} <= set(KINDS)
    assert all(all_commands(kind) for kind in KINDS)


@pytest.mark.parametrize("command", all_commands(), ids=str)
def test_what_a_command_names_exists(command: Command) -> None:
    words = shlex.split(command.text)
    for word in words:
        if re.match(r"^(examples|helm|docs|crds|e2e)/", word):
            assert (REPO / word).exists(), f"{command}: {word} is not there"
    makefile = REPO / "Makefile"
    if words[0] == "make":
        targets = set(re.findall(r"^([a-z][-a-z]*):", makefile.read_text(), re.MULTILINE))
        assert words[1] in targets, f"{command}: the Makefile has {sorted(targets)}"


@pytest.mark.apiserver
def test_apiserver_commands(bed: ApiServer) -> None:
    """In the order of the pages: a page's later commands stand on its earlier ones, each page on a clean `team-a`."""
    page = None
    for command in all_commands("apiserver"):
        if command.page != page:
            page = command.page
            bed.kubectl(
                "-n", "team-a", "delete", "finetunejobs,modeldeployments,horizontalpodautoscalers,secrets", "--all"
            )
        words = shlex.split(command.text.removesuffix(" || true"))
        assert words[0] == "kubectl", command
        try:
            output = bed.kubectl(*words[1:])
        except subprocess.CalledProcessError as error:
            if not command.text.endswith(" || true"):
                error.add_note(str(command))
                raise
            output = error.stdout
        answers(command, output)


@pytest.mark.parametrize("command", all_commands("helm"), ids=str)
def test_helm_commands(helm: Helm, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPO)
    words = shlex.split(command.text)
    assert words[0] == "helm"
    answers(command, helm.run(*words[1:]))


@pytest.mark.parametrize("command", all_commands("helm-fails"), ids=str)
def test_helm_commands_that_fail(helm: Helm, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPO)
    with pytest.raises(Refused) as refusal:
        helm.run(*shlex.split(command.text)[1:])
    assert command.answer
    answers(command, str(refusal.value))


@pytest.mark.parametrize("command", all_commands("cli"), ids=str)
def test_cli_commands(command: Command) -> None:
    words = shlex.split(command.text)
    assert words[0] == "python"
    done = subprocess.run([sys.executable, *words[1:]], cwd=REPO, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    answers(command, done.stdout)


def snippets(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", pages(), ids=lambda p: str(p.relative_to(REPO)))
def test_yaml_and_json_parse_and_name_real_fields(page: Path) -> None:
    specs = [spec_of(plural) for plural in OURS]
    values = yaml.safe_load((REPO / "helm" / "finetune-operator" / "values.yaml").read_text())
    for text in snippets(page, "json"):
        for line in text.splitlines():
            json.loads(line)
    for text in snippets(page, "yaml"):
        document = yaml.safe_load(text)
        if "kind" in document:
            continue
        wrong = [list(unknown(document, spec)) for spec in specs]
        if set(document) <= set(values):
            wrong.append([])
        assert [] in wrong, f"{page}: neither a spec's nor the chart's: {min(wrong, key=len)}"


def spec_of(plural: str) -> dict[str, Any]:
    spec: dict[str, Any] = crd(plural)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return spec


def unknown(value: Any, schema: dict[str, Any], path: str = "spec") -> Iterator[str]:
    """Fields of a snippet that the CRD does not have, at any depth."""
    if isinstance(value, list):
        for entry in value:
            yield from unknown(entry, schema.get("items", {}), f"{path}[]")
    elif isinstance(value, dict) and "properties" in schema:
        for key, child in value.items():
            if key in schema["properties"]:
                yield from unknown(child, schema["properties"][key], f"{path}.{key}")
            else:
                yield f"{path}.{key}"
