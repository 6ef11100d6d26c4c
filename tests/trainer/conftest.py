"""What several files start from: gangs forked from one warm process, scripts that train many runs, a run to publish."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from finetune_api import runconfig as rc
from tests.trainer import tiny
from tests.trainer.preemption import Make, Run
from tests.trainer.ranks import Results, run_ranks
from tests.trainer.warm import Template


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Template]:
    template = Template(tmp_path_factory.mktemp("warm"))
    yield template
    template.close()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tiny.Tiny:
    return tiny.build(tmp_path_factory.mktemp("tiny"), rows=80)


@pytest.fixture
def make(tmp_path: Path, template: Template, data: tiny.Tiny) -> Iterator[Make]:
    made: list[Run] = []

    def new(**values: object) -> Run:
        run = Run(tmp_path, template, data, **values)  # type: ignore[arg-type]
        made.append(run)
        return run

    yield new
    for run in made:
        run.gang.kill()


@pytest.fixture(scope="module")
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the script that the module's RANKS names (see `ranks.run_ranks`) trains its runs."""
    return tmp_path_factory.mktemp(Path(request.module.RANKS["script"]).stem)


@pytest.fixture(scope="module")
def results(request: pytest.FixtureRequest, folder: Path) -> Results:
    """What came of the runs of that script; it is started once for the module. Runs that RANKS does not show are made
    when a nightly test asks for them.
    """
    asked = {**request.module.RANKS}
    if any(i.get_closest_marker("nightly") for i in request.session.items if i.path == request.path):
        asked.pop("shown", None)
    found: Results = run_ranks(folder=folder, **asked)
    return found


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run that is published in this process."""
    monkeypatch.setenv(rc.TERMINATION_LOG_ENV, str(tmp_path / "termination"))
    monkeypatch.setenv(rc.SCRATCH_DIR_ENV, str(tmp_path / "scratch"))
    return tmp_path
