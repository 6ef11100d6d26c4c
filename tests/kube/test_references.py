from typing import Any

import pytest

from finetune_operator.core.selectors import matches
from finetune_operator.core.types import Obj
from finetune_operator.kube.keys import deployment_key, job_key
from finetune_operator.kube.references import Address
from finetune_operator.kube.store import Store
from tests.kube.builders import Json, finetunejob, modeldeployment

CHAT, OTHER = deployment_key("team", "chat"), deployment_key("team", "other")
BOT = job_key("team", "bot")


def labelled(labels: Json, **more: Any) -> Json:
    job = finetunejob(**more)
    job["metadata"]["labels"] = labels
    return job


def selecting(selector: Json, **more: Any) -> Json:
    return modeldeployment(model={"fineTuneJobSelector": selector}, **more)


def filled(*objects: Json, claims: Any = lambda obj: ()) -> Store:
    store = Store(claims)
    for obj in objects:
        store.apply("ADDED", obj)
    return store


def test_a_job_wakes_who_names_it() -> None:
    store = filled(
        modeldeployment(),
        modeldeployment("other", uid="o", model={"uri": "s3://x"}),
        modeldeployment("far", namespace="elsewhere", uid="f"),
    )
    assert store.apply("ADDED", finetunejob()) == {BOT, CHAT}
    assert store.apply("MODIFIED", finetunejob(rv=2, status={"phase": "Succeeded"})) == {BOT, CHAT}
    assert store.apply("DELETED", finetunejob(rv=3)) == {BOT, CHAT}


def test_progress_wakes_nobody_else() -> None:
    store = filled(modeldeployment(), finetunejob(status={"phase": "Running", "progress": {"step": 1}}))
    more = finetunejob(rv=2, status={"phase": "Running", "progress": {"step": 2}, "conditions": [1]})
    assert store.apply("MODIFIED", more) == {BOT}
    for status in ({"phase": "Publishing"}, {"phase": "Publishing", "reason": "Evaluated"}):
        rv = int(more["metadata"]["resourceVersion"]) + 1
        more = finetunejob(rv=rv, status=status)
        assert store.apply("MODIFIED", more) == {BOT, CHAT}


def test_a_job_wakes_who_selects_it_now_or_did() -> None:
    store = filled(selecting({"matchLabels": {"model": "bot"}}), selecting({"matchLabels": {"model": "x"}}, name="x"))
    assert store.apply("ADDED", labelled({"model": "bot"})) == {BOT, CHAT}
    assert store.apply("MODIFIED", labelled({"model": "none"}, rv=2)) == {BOT, CHAT}
    assert store.apply("MODIFIED", labelled({"model": "none"}, rv=3, status={"phase": "Running"})) == {BOT}


def test_what_a_deployment_no_longer_refers_to_wakes_it_no_longer() -> None:
    store = filled(modeldeployment(), finetunejob("two", uid="t"))
    store.apply("MODIFIED", modeldeployment(rv=2, model={"fineTuneJobRef": {"name": "two"}}))
    assert store.apply("ADDED", finetunejob()) == {BOT}
    assert store.apply("DELETED", finetunejob("two", uid="t", rv=9)) == {job_key("team", "two"), CHAT}
    store.apply("DELETED", modeldeployment(rv=10))
    assert store.apply("ADDED", finetunejob("two", uid="u", rv=11)) == {job_key("team", "two")}


def test_a_selector_that_went_away_selects_nothing() -> None:
    store = filled(selecting({"matchLabels": {"model": "bot"}}))
    store.apply("MODIFIED", modeldeployment(rv=2, model={"uri": "s3://x"}))
    assert store.apply("ADDED", labelled({"model": "bot"})) == {BOT}


@pytest.mark.parametrize("spec", [{}, {"model": None}, {"model": {"fineTuneJobRef": "x"}}, {"model": ["x"]}])
def test_a_broken_spec_refers_to_nothing(spec: Json) -> None:
    body = modeldeployment()
    body["spec"] = spec
    assert filled(body).apply("ADDED", finetunejob()) == {BOT}


def by_hostname(obj: Obj) -> tuple[Address, ...]:
    return tuple((host, "/") for host in (obj["spec"].get("traffic") or {}).get("hostnames", ()))


def at(*hosts: str, **more: Any) -> Json:
    return modeldeployment(traffic={"hostnames": list(hosts)}, **more)


def test_who_shares_an_address_is_woken_when_it_is_claimed_or_given_up() -> None:
    store = filled(at("a.example.com", "b.example.com"), claims=by_hostname)
    assert store.apply("ADDED", at("c.example.com", name="other", uid="o")) == {OTHER}
    assert store.apply("MODIFIED", at("b.example.com", name="other", uid="o", rv=2)) == {OTHER, CHAT}
    assert store.apply("MODIFIED", at("b.example.com", name="other", uid="o", rv=3)) == {OTHER}, "nothing changed"
    assert store.apply("DELETED", at("b.example.com", name="other", uid="o", rv=4)) == {OTHER, CHAT}
    assert store.neighbours(CHAT) == {}


def test_neighbours_are_those_at_the_same_address() -> None:
    other = at("b.example.com", name="other", uid="o")
    store = filled(at("a.example.com", "b.example.com"), other, at("c", name="third", uid="t"), claims=by_hostname)
    ((address, others),) = store.neighbours(CHAT).items()
    assert address == ("b.example.com", "/")
    assert [o["metadata"]["name"] for o in others] == ["other"]
    assert list(store.neighbours(OTHER)) == [address]


def test_a_deployment_made_anew_gives_up_what_the_former_one_claimed() -> None:
    store = filled(at("a", uid="old"), at("a", name="other", uid="o"), claims=by_hostname)
    assert store.apply("ADDED", at("b", uid="new", rv=5)) == {CHAT, OTHER}
    assert store.neighbours(OTHER) == {}


@pytest.mark.parametrize(
    ("selector", "chosen"),
    [
        ({"matchLabels": {"a": "1"}}, True),
        ({"matchLabels": {"a": "1", "b": "2"}}, False),
        ({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1", "2"]}]}, True),
        ({"matchExpressions": [{"key": "a", "operator": "In", "values": ["2"]}]}, False),
        ({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["2"]}]}, True),
        ({"matchExpressions": [{"key": "z", "operator": "NotIn", "values": ["2"]}]}, True),
        ({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]}, False),
        ({"matchExpressions": [{"key": "a", "operator": "Exists"}]}, True),
        ({"matchExpressions": [{"key": "z", "operator": "Exists"}]}, False),
        ({"matchExpressions": [{"key": "z", "operator": "DoesNotExist"}]}, True),
        ({"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}, False),
        ({"matchLabels": {"a": "1"}, "matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}, False),
        ({"matchExpressions": [{"key": "a", "operator": "Like", "values": ["1"]}]}, False),
        ({}, False),
        ({"matchLabels": {}}, False),
    ],
)
def test_selectors_as_the_api_server_reads_them(selector: Json, chosen: bool) -> None:
    assert matches(selector, {"a": "1"}) is chosen
