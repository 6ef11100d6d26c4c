"""Replacements by a folder of the tool's own repository become published modules."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2e.tools import pin


@pytest.mark.parametrize(
    ("old", "new_path", "new_version", "expected"),
    [
        ("k8s.io/api", "./staging/src/k8s.io/api", "", "k8s.io/api => k8s.io/api v0.37.2"),
        ("go.etcd.io/etcd/api/v3", "../api", "", None),
        ("example.com/a", "example.com/fork", "v1.2.3", "example.com/a => example.com/fork v1.2.3"),
    ],
)
def test_replacement(tmp_path: Path, old: str, new_path: str, new_version: str, expected: str | None) -> None:
    replace = {"Old": {"Path": old}, "New": {"Path": new_path, "Version": new_version}}
    assert pin.replacement(replace, "v1.37.2", tmp_path) == expected


def test_a_folder_that_was_never_published_is_stood_in_for(tmp_path: Path) -> None:
    (tmp_path / "ext").mkdir()
    (tmp_path / "ext" / "go.mod").write_text("module example.com/ext\n")
    replace = {"Old": {"Path": "example.com/ext"}, "New": {"Path": "./pkg/config/ext"}}
    assert pin.replacement(replace, "v3.7.5", tmp_path) == "example.com/ext => ./ext"
