"""The three patch formats besides apply."""

from __future__ import annotations

from typing import Any

import pytest
from fakeapi.errors import ApiError
from fakeapi.patches import json_patch, merge_patch, strategic_patch


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": 1}, {"b": 2}, {"a": 1, "b": 2}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": None}}, {"a": {"c": 2}}),
        ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
        ({"a": "x"}, {"a": {"b": {"c": None}}}, {"a": {"b": {}}}),
        ({"a": {"b": 1}}, {"a": 5}, {"a": 5}),
    ],
)
def test_merge_patch(target: Any, patch: Any, result: Any) -> None:
    assert merge_patch(target, patch) == result


@pytest.mark.parametrize(
    ("operations", "result"),
    [
        ([{"op": "add", "path": "/b", "value": 1}], {"a": {"x~/": [1, 2]}, "b": 1}),
        ([{"op": "add", "path": "/a/x~0~1/-", "value": 3}], {"a": {"x~/": [1, 2, 3]}}),
        ([{"op": "add", "path": "/a/x~0~1/0", "value": 0}], {"a": {"x~/": [0, 1, 2]}}),
        ([{"op": "remove", "path": "/a/x~0~1/0"}], {"a": {"x~/": [2]}}),
        ([{"op": "replace", "path": "/a", "value": 5}], {"a": 5}),
        ([{"op": "copy", "from": "/a", "path": "/c"}], {"a": {"x~/": [1, 2]}, "c": {"x~/": [1, 2]}}),
        ([{"op": "move", "from": "/a", "path": "/c"}], {"c": {"x~/": [1, 2]}}),
        ([{"op": "test", "path": "/a/x~0~1/1", "value": 2}], {"a": {"x~/": [1, 2]}}),
    ],
    ids=str,
)
def test_json_patch(operations: Any, result: Any) -> None:
    assert json_patch({"a": {"x~/": [1, 2]}}, operations) == result


@pytest.mark.parametrize(
    "operations",
    [
        [{"op": "test", "path": "/a", "value": 9}],
        [{"op": "remove", "path": "/nothing"}],
        [{"op": "add", "path": "/no/where", "value": 1}],
        [{"op": "dance", "path": "/a"}],
        {"op": "add"},
    ],
    ids=str,
)
def test_refused_json_patches(operations: Any) -> None:
    with pytest.raises(ApiError):
        json_patch({"a": 1}, operations)


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        (
            {"containers": [{"name": "a", "image": "1"}, {"name": "b"}]},
            {"containers": [{"name": "a", "image": "2"}]},
            {"containers": [{"name": "a", "image": "2"}, {"name": "b"}]},
        ),
        (
            {"containers": [{"name": "a"}, {"name": "b"}]},
            {"containers": [{"name": "a", "$patch": "delete"}, {"name": "c"}]},
            {"containers": [{"name": "c"}, {"name": "b"}]},
        ),
        ({"finalizers": ["a"]}, {"finalizers": ["b"]}, {"finalizers": ["a", "b"]}),
        ({"finalizers": ["a", "b"]}, {"$deleteFromPrimitiveList/finalizers": ["a"]}, {"finalizers": ["b"]}),
        ({"command": ["a"]}, {"command": ["b"]}, {"command": ["b"]}),
        ({"x": {"a": 1}}, {"x": {"$patch": "replace", "b": 2}}, {"x": {"b": 2}}),
        ({"ports": [{"port": 80}]}, {"ports": [{"port": 81}, {"port": 80, "name": "n"}]},
         {"ports": [{"port": 81}, {"port": 80, "name": "n"}]}),
    ],
)  # fmt: skip
def test_strategic_patch(target: Any, patch: Any, result: Any) -> None:
    assert strategic_patch(target, patch) == result
