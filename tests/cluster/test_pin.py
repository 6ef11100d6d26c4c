"""Replacements by a folder of the tool's own repository become published modules."""

from __future__ import annotations

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
def test_replacement(old: str, new_path: str, new_version: str, expected: str | None) -> None:
    replace = {"Old": {"Path": old}, "New": {"Path": new_path, "Version": new_version}}
    assert pin.replacement(replace, "v1.37.2") == expected
