"""The fake's table of list and map types against the OpenAPI schema that a real API server publishes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fakeapi.kinds import BUILTIN
from fakeapi.schemas import Atomic, ListMap, MapOf, SetOf, Struct, Type, child

from tests.apiserver.differential import RealServer

pytestmark = pytest.mark.apiserver
_KINDS = [r for r in BUILTIN if r.kind != "CustomResourceDefinition"]


@pytest.fixture(scope="module")
def real(apiserver: Any) -> Iterator[RealServer]:
    server = RealServer(apiserver)
    yield server
    server.close()


def _resolve(schema: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    """Follows $ref, also where OpenAPI wraps it in allOf to add a default."""
    for part in (schema, *schema.get("allOf", [])):
        if "$ref" in part:
            name = part["$ref"].rpartition("/")[2]
            extra = {k: v for k, v in schema.items() if k.startswith("x-kubernetes")}
            return {**document["components"]["schemas"][name], **extra}
    return schema


def _compare(schema: dict[str, Any], t: Type, at: str, document: dict[str, Any], depth: int) -> Iterator[str]:
    schema = _resolve(schema, document)
    kind = schema.get("type")
    if depth > 9:
        return
    if kind == "array":
        how = schema.get("x-kubernetes-list-type", "atomic")
        if how == "set" and not isinstance(t, SetOf):
            yield f"{at} is a set"
        elif how == "map":
            keys = schema["x-kubernetes-list-map-keys"]
            if not isinstance(t, ListMap) or [k for k, _ in t.keys] != keys:
                yield f"{at} is a list with keys {keys}"
            else:
                yield from _compare(schema["items"], t.elem, f"{at}[]", document, depth + 1)
        elif how == "atomic" and isinstance(t, ListMap | SetOf):
            yield f"{at} is atomic"
    elif schema.get("x-kubernetes-map-type") == "atomic":
        if not isinstance(t, Atomic):
            yield f"{at} is an atomic object"
    elif isinstance(schema.get("additionalProperties"), dict):
        inner = _resolve(schema["additionalProperties"], document)
        if isinstance(t, Atomic):
            yield f"{at} is a granular map"
        elif inner.get("type") == "object" and not isinstance(t, MapOf):
            yield f"{at} is a map of objects"
    elif "properties" in schema:
        if isinstance(t, Atomic):
            yield f"{at} is a granular object"
            return
        for name, inner in schema["properties"].items():
            yield from _compare(inner, child(t, name)[0], f"{at}.{name}", document, depth + 1)


@pytest.mark.parametrize("resource", _KINDS, ids=lambda r: r.kind)
def test_types_are_those_of_the_real_server(real: RealServer, resource: Any) -> None:
    root = f"/openapi/v3/apis/{resource.api_version}" if resource.group else f"/openapi/v3/api/{resource.version}"
    status, document = real.call("GET", root, {}, None)
    assert status == 200
    schemas = document["components"]["schemas"]
    wanted = {"group": resource.group, "version": resource.version, "kind": resource.kind}
    found = [s for s in schemas.values() if wanted in s.get("x-kubernetes-group-version-kind", [])]
    assert len(found) == 1
    assert isinstance(resource.type, Struct)
    differences = list(_compare(found[0], resource.type, resource.kind, document, 0))
    assert differences == [], "\n".join(differences)
