from __future__ import annotations

from typing import Any

import pytest

from finetune_operator.core.selectors import in_words, matches

LABELS = {"app": "bot", "tier": "a"}


def expression(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


@pytest.mark.parametrize(
    ("selector", "selected"),
    [
        ({"matchLabels": {"app": "bot"}}, True),
        ({"matchLabels": {"app": "bot", "tier": "b"}}, False),
        ({"matchLabels": {"other": ""}}, False),
        (expression("tier", "In", "a", "b"), True),
        (expression("tier", "In", "b"), False),
        (expression("other", "In", "a"), False),
        (expression("tier", "NotIn", "b"), True),
        (expression("tier", "NotIn", "a"), False),
        (expression("other", "NotIn", "a"), True),
        (expression("tier", "Exists"), True),
        (expression("other", "Exists"), False),
        (expression("tier", "DoesNotExist"), False),
        (expression("other", "DoesNotExist"), True),
        (expression("tier", "Gt", "1"), False),
        ({"matchLabels": {"app": "bot"}, **expression("tier", "In", "b")}, False),
        ({"matchLabels": {"app": "bot"}, **expression("tier", "In", "a")}, True),
        ({}, False),
        ({"matchLabels": {}, "matchExpressions": []}, False),
    ],
)
def test_selectors_select_as_the_api_server_does(selector: dict[str, Any], selected: bool) -> None:
    assert matches(selector, LABELS) is selected


def test_a_selector_is_told_as_kubectl_takes_it() -> None:
    selector = {
        "matchLabels": {"tier": "a", "app": "bot"},
        "matchExpressions": [
            {"key": "env", "operator": "In", "values": ["x", "y"]},
            {"key": "env", "operator": "NotIn", "values": ["z"]},
            {"key": "gpu", "operator": "Exists"},
            {"key": "retired", "operator": "DoesNotExist"},
        ],
    }
    assert in_words(selector) == "app=bot, tier=a, env in (x, y), env notin (z), gpu, !retired"
