"""Gangs of launchers and ranks that are forked from one warm process, for the files that start many."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.trainer import tiny
from tests.trainer.preemption import Make, Run
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
