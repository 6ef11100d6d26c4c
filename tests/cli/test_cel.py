"""Every rule of both CRDs is in the dialect, and the dialect means what the API server means."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from finetune_cli import rules
from finetune_cli.cel import CelError, compile_rule


def every_rule(node: dict[str, Any]) -> Iterator[str]:
    yield from (entry["rule"] for entry in node.get("x-kubernetes-validations", ()))
    for child in [*node.get("properties", {}).values(), node.get("items"), node.get("additionalProperties")]:
        if isinstance(child, dict):
            yield from every_rule(child)


ALL = [rule for kind in rules.KINDS for rule in every_rule(rules.schema(kind)["properties"]["spec"])]


def test_the_crds_have_rules() -> None:
    assert len(ALL) > 12


@pytest.mark.parametrize("rule", ALL)
def test_every_rule_of_the_crds_can_be_read(rule: str) -> None:
    compile_rule(rule)


@pytest.mark.parametrize(
    ("rule", "value", "expected"),
    [
        ("has(self.a)", {"a": 0}, True),
        ("has(self.a)", {}, False),
        ("!(has(self.a) && has(self.b))", {"a": 1, "b": 2}, False),
        ("!has(self.a) || self.a == 'x'", {"a": "y"}, False),
        ("self.a % self.b == 0", {"a": 6, "b": 4}, False),
        ("self.a.size() <= 3 && self.a.matches('^[a-z]+$')", {"a": "abc"}, True),
        ("!self.a.startsWith('FINETUNE_')", {"a": "FINETUNE_X"}, False),
        ("[has(self.a), has(self.b)].filter(x, x).size() == 1", {"a": 1, "b": 1}, False),
        ("self.a.all(s, self.a.filter(t, t.w == s.w).size() == 1)", {"a": [{"w": 1}, {"w": 1}]}, False),
        ("self.a.exists(a, a.replace('_', '-').matches('^--?(x-y)(=.*)?$'))", {"a": ["--x_y=1"]}, True),
        ("self.a + 1 < self.b * 2", {"a": 1, "b": 2}, True),
        ("self.a == true || self.a == null", {"a": True}, True),
        ("(has(self.a) ? 1 : 0) + (has(self.b) ? 1 : 0) == 1", {"a": 1, "b": 2}, False),
        ("!(self.a in ['x', 'y']) || self.index in [1]", {"a": "y", "index": 2}, False),
    ],
)
def test_meaning(rule: str, value: dict[str, Any], expected: bool) -> None:
    assert bool(compile_rule(rule)({"self": value})) is expected


@pytest.mark.parametrize("rule", ["self.a.sum()", "has(self.a", "self.a ? 1", "self.a == 1 2", ""])
def test_what_is_not_in_the_dialect_is_refused(rule: str) -> None:
    with pytest.raises(CelError):
        compile_rule(rule)


def test_a_field_that_is_missing_is_named() -> None:
    with pytest.raises(CelError, match="no such field: b"):
        compile_rule("self.b == 1")({"self": {"a": 1}})
