from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from finetune_operator.core.serving.traffic import Address, address, claims_of, refusal
from finetune_operator.core.serving.types import Claim
from tests.core.build import ts
from tests.core.serving.leaves import CONFIG, modeldeployment, spec_of

HOME = "bot.team.models.example.com"
BARE = replace(CONFIG, gateway_domain="")


def where(traffic: dict[str, Any] | None = None, config: Any = CONFIG) -> Address:
    md = modeldeployment({"traffic": traffic or {}})
    return address(spec_of(md), md, config)


def refused(
    traffic: dict[str, Any] | None = None,
    config: Any = CONFIG,
    claims: dict[tuple[str, str], Claim] | None = None,
    **meta: Any,
) -> tuple[str, str]:
    md = modeldeployment({"traffic": traffic or {}}, **meta)
    return refusal(spec_of(md), md, config, claims or {}) or ("", "")


def test_the_default_is_a_hostname_of_ones_own_else_a_path_of_ones_own() -> None:
    assert where() == Address((HOME,), "/", f"http://{HOME}")
    assert where(config=BARE) == Address((), "/team/bot", "/team/bot")


def test_what_is_written_counts() -> None:
    hosts = ["chat.example.com", "b.example.com", "chat.example.com"]
    assert where({"hostnames": hosts}) == Address(hosts_of("chat", "b"), "/", "http://chat.example.com")
    both = where({"hostnames": ["chat.example.com"], "path": "/v2/bot"})
    assert both == Address(hosts_of("chat"), "/v2/bot", "http://chat.example.com/v2/bot")
    assert where({"path": "/bot"}).url == f"http://{HOME}/bot"
    assert where({"hostnames": []}) == where()


def hosts_of(*names: str) -> tuple[str, ...]:
    return tuple(f"{name}.example.com" for name in names)


def test_a_cluster_without_gateways_is_told_what_to_install() -> None:
    reason, message = refused(config=replace(CONFIG, gateway_api=False))
    assert reason == "GatewayApiMissing"
    assert "gateway.install=true" in message
    reason, message = refused(config=replace(CONFIG, gateway=""))
    assert reason == "NoGateway"
    assert "spec.traffic.parentRefs" in message
    assert refused({"parentRefs": [{"name": "own"}]}, replace(CONFIG, gateway="")) == ("", "")


@pytest.mark.parametrize(
    ("hostname", "patterns", "allowed"),
    [
        (HOME, (), True),
        ("other.team.models.example.com", (), False),
        ("other.team.models.example.com", ("*.{namespace}.models.example.com",), True),
        ("a.b.team.models.example.com", ("*.{namespace}.models.example.com",), True),
        ("team.models.example.com", ("*.{namespace}.models.example.com",), False),
        ("bot.team-b.models.example.com", ("*.{namespace}.models.example.com",), False),
        ("evilteam.models.example.com", ("*.{namespace}.models.example.com",), False),
        ("chat.example.com", ("chat.example.com",), True),
        ("chat.example.com.evil.org", ("chat.example.com", "*.example.com"), False),
        ("anything.org", ("*",), True),
    ],
)
def test_the_installation_says_which_hostnames_may_be_claimed(
    hostname: str, patterns: tuple[str, ...], allowed: bool
) -> None:
    reason, message = refused({"hostnames": [hostname]}, replace(CONFIG, hostname_patterns=patterns))
    assert reason == ("" if allowed else "HostnameNotAllowed")
    if not allowed:
        assert hostname in message
        assert HOME in message


def test_every_hostname_is_checked() -> None:
    assert refused({"hostnames": [HOME, "x.org"]})[0] == "HostnameNotAllowed"


def test_without_a_hostname_only_the_namespaces_own_paths() -> None:
    assert refused(config=BARE) == ("", "")
    assert refused({"path": "/team/other"}, BARE) == ("", "")
    for path in ("/", "/v1", "/teammate", "/other/bot"):
        reason, message = refused({"path": path}, BARE)
        assert reason == "PathNotAllowed"
        assert f"spec.traffic.path: {path} " in message
        assert "/team/" in message
    assert refused({"path": "/"}, replace(BARE, hostname_patterns=("*",))) == ("", "")


@pytest.mark.parametrize(
    ("created", "owner", "taken"),
    [(-1, "zoo/x", True), (1, "aaa/x", False), (0, "aaa/x", True), (0, "zoo/x", False)],
)
def test_the_older_keeps_the_address(created: float, owner: str, taken: bool) -> None:
    config = replace(CONFIG, hostname_patterns=("*",))
    claims = {("chat.example.com", "/v1"): Claim(owner, ts(created))}
    traffic = {"hostnames": ["own.example.com", "chat.example.com"], "path": "/v1"}
    reason, message = refused(traffic, config, claims)
    assert reason == ("HostnameTaken" if taken else "")
    if taken:
        assert f"chat.example.com/v1 is served by ModelDeployment {owner}" in message
    assert refused({**traffic, "path": "/v2"}, config, claims) == ("", "")


def test_the_path_of_any_host_can_be_taken_too() -> None:
    claims = {("", "/team/bot"): Claim("team/older", ts(-1))}
    assert refused(config=BARE, claims=claims)[0] == "HostnameTaken"
    assert refused(claims=claims) == ("", "")


def test_claims_are_what_may_be_asked_for() -> None:
    assert claims_of(modeldeployment(), CONFIG) == ((HOME, "/"),)
    assert claims_of(modeldeployment(), BARE) == (("", "/team/bot"),)
    two = modeldeployment({"traffic": {"hostnames": [HOME, "x.org"], "path": "/a"}})
    assert claims_of(two, CONFIG) == ()
    assert claims_of(two, replace(CONFIG, hostname_patterns=("x.org",))) == ((HOME, "/a"), ("x.org", "/a"))


def test_a_broken_spec_claims_nothing() -> None:
    assert claims_of(modeldeployment({"replicas": "many"}), CONFIG) == ()
    assert claims_of({"metadata": {"name": "bot", "namespace": "team"}}, CONFIG) == ()
