"""Under which address a ModelDeployment is served, and whether it may be.

Hostnames and paths are shared by everybody behind a Gateway. Who may claim which hostname is the installation's policy;
of two claims to one address the older ModelDeployment keeps it: nobody takes traffic away by creating an object.
An address that is refused blocks nobody else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from finetune_api.modeldeployment import ModelDeploymentSpec
from finetune_operator.core.names import Reason
from finetune_operator.core.serving.types import Claim
from finetune_operator.core.types import Config, Obj

ANY = "*"
"""The pattern that allows every hostname, and any path on no hostname."""


@dataclass(frozen=True)
class Address:
    hostnames: tuple[str, ...]
    """Empty: any host."""
    path: str
    url: str
    """Of the first hostname; the path alone where any host will do, the Gateway's own address is not known here."""


def address(spec: ModelDeploymentSpec, md: Obj, config: Config) -> Address:
    """As written, else `<name>.<namespace>.<domain>`; without a domain any host and a path of its own."""
    meta = md["metadata"]
    default = _default_hostname(md, config)
    hostnames = tuple(dict.fromkeys(spec.traffic.hostnames or ((default,) if default else ())))
    path = spec.traffic.path or ("/" if hostnames else f"/{meta['namespace']}/{meta['name']}")
    tail = "" if path == "/" and hostnames else path
    return Address(hostnames, path, f"http://{hostnames[0]}{tail}" if hostnames else tail)


def refusal(
    spec: ModelDeploymentSpec, md: Obj, config: Config, claims: Mapping[tuple[str, str], Claim]
) -> tuple[str, str] | None:
    """(reason, message) of why nothing can be served at this address; None: it can."""
    if not config.gateway_api:
        return Reason.GATEWAY_API_MISSING, (
            "the cluster does not serve gateway.networking.k8s.io/v1 HTTPRoute; install a Gateway API implementation, "
            "or set gateway.install=true in this operator's chart"
        )
    if not spec.traffic.parent_refs and not config.gateway:
        return Reason.NO_GATEWAY, (
            "spec.traffic.parentRefs names no Gateway and the installation has none; set parentRefs, "
            "or gateway.install=true in this operator's chart"
        )
    return _policy(spec, md, config) or _taken(spec, md, config, claims)


def claims_of(md: Obj, config: Config) -> tuple[tuple[str, str], ...]:
    """Every (hostname or "", path) that this ModelDeployment asks for and may ask for; () when its spec is broken."""
    try:
        spec = ModelDeploymentSpec.model_validate(md.get("spec"))
    except ValidationError:
        return ()
    if _policy(spec, md, config) is not None:
        return ()
    where = address(spec, md, config)
    return tuple((host, where.path) for host in where.hostnames or ("",))


def _default_hostname(md: Obj, config: Config) -> str:
    meta = md["metadata"]
    return f"{meta['name']}.{meta['namespace']}.{config.gateway_domain}" if config.gateway_domain else ""


def _patterns(md: Obj, config: Config) -> tuple[str, ...]:
    return tuple(p.replace("{namespace}", md["metadata"]["namespace"]) for p in config.hostname_patterns)


def _matches(hostname: str, pattern: str) -> bool:
    """`*.example.com` stands for one or more labels, as in the Gateway API itself; the bare domain is not meant."""
    if pattern.startswith("*."):
        return hostname.endswith(pattern[1:]) and len(hostname) > len(pattern) - 1
    return pattern in (ANY, hostname)


def _policy(spec: ModelDeploymentSpec, md: Obj, config: Config) -> tuple[str, str] | None:
    where = address(spec, md, config)
    patterns = _patterns(md, config)
    default = _default_hostname(md, config)
    for hostname in where.hostnames:
        if hostname != default and not any(_matches(hostname, pattern) for pattern in patterns):
            allowed = ", ".join(filter(None, (default, *patterns))) or "none"
            return Reason.HOSTNAME_NOT_ALLOWED, (
                f"spec.traffic.hostnames: {hostname} is not allowed in namespace {md['metadata']['namespace']} "
                f"(allowed: {allowed}); choose one of these, or have policy.hostnames of this operator's chart extended"
            )
    home = f"/{md['metadata']['namespace']}"
    if not where.hostnames and ANY not in patterns and where.path != home and not where.path.startswith(f"{home}/"):
        return Reason.PATH_NOT_ALLOWED, (
            f"spec.traffic.path: {where.path} on every hostname would take other namespaces' requests; "
            f"use a path below {home}/, or set spec.traffic.hostnames"
        )
    return None


def _taken(
    spec: ModelDeploymentSpec, md: Obj, config: Config, claims: Mapping[tuple[str, str], Claim]
) -> tuple[str, str] | None:
    meta = md["metadata"]
    own = (meta.get("creationTimestamp") or "", f"{meta['namespace']}/{meta['name']}")
    where = address(spec, md, config)
    for host in where.hostnames or ("",):
        claim = claims.get((host, where.path))
        if claim is not None and (claim.created, claim.owner) < own:
            return Reason.HOSTNAME_TAKEN, (
                f"{host}{where.path} is served by ModelDeployment {claim.owner}, which is older; "
                "set another hostname or path in spec.traffic, or delete the other one"
            )
    return None
