"""Our own objects go with the CRD; an operator that may not read it, or finds none, starts all the same."""

from __future__ import annotations

from typing import Any

import pytest

from finetune_operator.kube import errors
from finetune_operator.shell.owner import CRD, crd_reference


class OneAnswer:
    def __init__(self, answer: Any) -> None:
        self._answer = answer

    async def get(self, resource: Any, namespace: str | None, name: str) -> Any:
        assert (resource.plural, namespace, name) == ("customresourcedefinitions", None, CRD)
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


async def test_the_crd_is_named_with_its_uid() -> None:
    (owner,) = await crd_reference(OneAnswer({"metadata": {"name": CRD, "uid": "u1"}}))  # type: ignore[arg-type]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("CustomResourceDefinition", CRD, "u1")
    assert "controller" not in owner


@pytest.mark.parametrize("error", [errors.NotFound("no", status=404), errors.Forbidden("no", status=403)])
async def test_without_it_there_is_no_owner(error: Exception) -> None:
    assert await crd_reference(OneAnswer(error)) == []  # type: ignore[arg-type]
