"""Installing a CustomResourceDefinition: its schema decides pruning, defaults, validation and field ownership."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .kinds import Resource, Scale
from .schemas import METADATA, Struct, from_openapi
from .strategies.custom import Custom, Hook

if TYPE_CHECKING:
    from .server import FakeApiServer

Obj = dict[str, Any]


def resource_of(
    manifest: Obj, *, validate: Hook | None = None, default: Callable[[Obj], Obj] | None = None
) -> Resource:
    """What the stored version of a CRD manifest makes of a server: it can be shared by many."""
    spec = manifest["spec"]
    version = next(v for v in spec["versions"] if v["storage"])
    schema = version.get("schema", {}).get("openAPIV3Schema", {})
    shape = from_openapi(schema)
    fields = dict(shape.fields) if isinstance(shape, Struct) else {}
    names = spec["names"]
    return Resource(
        spec["group"],
        version["name"],
        names["plural"],
        names["kind"],
        spec["scope"] == "Namespaced",
        tuple(names.get("shortNames", ())),
        tuple(names.get("categories", ())),
        tuple(version.get("subresources", {})),
        generation=True,
        unconditional_update=False,
        custom=True,
        scale=_scale(version.get("subresources", {}).get("scale")),
        strategy=Custom(schema, validate=validate, default=default),
        schema=Struct({**fields, "metadata": METADATA}),
    )


def install_crd(
    server: FakeApiServer,
    manifest: Obj,
    *,
    validate: Hook | None = None,
    default: Callable[[Obj], Obj] | None = None,
) -> Resource:
    """Serves the stored version of a CRD manifest; the object itself is stored too."""
    resource = server.register(resource_of(manifest, validate=validate, default=default))
    crds = server.resource("apiextensions.k8s.io", "customresourcedefinitions")
    server.create(crds, "", manifest, {}, "fake")
    return resource


def _scale(spec: Obj | None) -> Scale | None:
    if spec is None:
        return None

    def path(name: str) -> tuple[str, ...]:
        return tuple(part for part in spec.get(name, "").split(".") if part)

    return Scale(path("specReplicasPath"), path("statusReplicasPath"), path("labelSelectorPath"))


def register_custom(
    server: FakeApiServer,
    group: str,
    version: str,
    plural: str,
    kind: str,
    *,
    validate: Hook | None = None,
    default: Callable[[Obj], Obj] | None = None,
    namespaced: bool = True,
) -> Resource:
    """A custom kind without a manifest: any fields, status subresource, optional validation."""
    return server.register(
        Resource(
            group,
            version,
            plural,
            kind,
            namespaced,
            subresources=("status",),
            generation=True,
            unconditional_update=False,
            custom=True,
            strategy=Custom(None, validate=validate, default=default),
        )
    )
