"""LIST and WATCH: selectors, pages, consistent versions, events, bookmarks, compaction."""

from __future__ import annotations

from typing import Any

import pytest
from fakeapi import Watch
from helpers import Api, Refused


@pytest.fixture
def api() -> Api:
    api = Api()
    for n in range(5):
        api.post("configmaps", {"metadata": {"name": f"c{n}", "labels": {"n": str(n), "odd": str(n % 2)}}})
    return api


def watch(api: Api, since: str | None = None, **params: str) -> Watch:
    if since is not None:
        params["resourceVersion"] = since
    resource = api.server.resource("", "configmaps")
    return Watch(api.server, resource, "default", {"watch": "true", **params})


def told(events: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(e["type"], e["object"]["metadata"]["name"]) for e in events]


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("odd=1", ["c1", "c3"]),
        ("odd==1", ["c1", "c3"]),
        ("odd!=1", ["c0", "c2", "c4"]),
        ("n in (1, 4),odd", ["c1", "c4"]),
        ("n notin (0,1,2)", ["c3", "c4"]),
        ("!odd", []),
        ("odd,n=2", ["c2"]),
        ("nothing!=x", ["c0", "c1", "c2", "c3", "c4"]),
    ],
)
def test_label_selectors(api: Api, selector: str, names: list[str]) -> None:
    assert api.names("configmaps", labelSelector=selector) == names


def test_field_selectors(api: Api) -> None:
    assert api.names("configmaps", fieldSelector="metadata.name=c2") == ["c2"]
    assert api.names("configmaps", fieldSelector="metadata.name!=c2,metadata.name!=c3") == ["c0", "c1", "c4"]
    with pytest.raises(Refused) as refused:
        api.names("configmaps", fieldSelector="data.x=1")
    assert refused.value.code == 400


def test_lists_of_builtin_kinds_leave_the_kind_out(api: Api) -> None:
    answer = api.list("configmaps")
    assert (answer["kind"], answer["apiVersion"]) == ("ConfigMapList", "v1")
    assert "kind" not in answer["items"][0]
    api.post("widgets", {"metadata": {"name": "w"}})
    assert api.list("widgets")["items"][0]["kind"] == "Widget"


def test_pages_show_one_moment(api: Api) -> None:
    first = api.list("configmaps", limit="2")
    assert first["metadata"]["remainingItemCount"] == 3
    api.delete("configmaps", "c3")
    api.post("configmaps", {"metadata": {"name": "c9"}})
    names, token = [i["metadata"]["name"] for i in first["items"]], first["metadata"]["continue"]
    while token:
        page = api.list("configmaps", limit="2", **{"continue": token})
        names += [i["metadata"]["name"] for i in page["items"]]
        assert page["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
        token = page["metadata"].get("continue", "")
    assert names == ["c0", "c1", "c2", "c3", "c4"]
    assert api.names("configmaps") == ["c0", "c1", "c2", "c4", "c9"]


def test_old_pages_expire(api: Api) -> None:
    token = api.list("configmaps", limit="2")["metadata"]["continue"]
    api.delete("configmaps", "c3")
    api.server.store.compact()
    with pytest.raises(Refused) as refused:
        api.list("configmaps", limit="2", **{"continue": token})
    assert (refused.value.code, refused.value.reason) == (410, "Expired")
    with pytest.raises(Refused) as refused:
        api.list("configmaps", **{"continue": "nonsense"})
    assert refused.value.code == 400


def test_exact_and_future_versions(api: Api) -> None:
    then = api.list("configmaps")["metadata"]["resourceVersion"]
    api.delete("configmaps", "c0")
    exact = api.list("configmaps", resourceVersion=then, resourceVersionMatch="Exact")
    assert len(exact["items"]) == 5
    with pytest.raises(Refused) as refused:
        api.list("configmaps", resourceVersion="99999")
    assert refused.value.code == 504


def test_watch_goes_on_from_a_list(api: Api) -> None:
    since = api.list("configmaps")["metadata"]["resourceVersion"]
    w = watch(api, since)
    assert w.poll() == []
    api.post("configmaps", {"metadata": {"name": "new"}})
    api.merge("configmaps", "c0", {"data": {"k": "v"}})
    api.delete("configmaps", "c1")
    events = w.poll()
    assert told(events) == [("ADDED", "new"), ("MODIFIED", "c0"), ("DELETED", "c1")]
    versions = [int(e["object"]["metadata"]["resourceVersion"]) for e in events]
    assert versions == sorted(versions)
    assert versions[-1] == api.server.store.revision
    assert w.poll() == []


def test_watch_without_a_version_begins_with_everything(api: Api) -> None:
    assert told(watch(api).poll()) == [("ADDED", f"c{n}") for n in range(5)]
    streaming = watch(api, sendInitialEvents="true", allowWatchBookmarks="true").poll()
    assert streaming[-1]["type"] == "BOOKMARK"
    assert streaming[-1]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


def test_watch_with_a_selector_sees_objects_come_and_go(api: Api) -> None:
    w = watch(api, str(api.server.store.revision), labelSelector="odd=1")
    api.merge("configmaps", "c0", {"metadata": {"labels": {"odd": "1"}}})
    api.merge("configmaps", "c1", {"metadata": {"labels": {"odd": "0"}}})
    api.merge("configmaps", "c2", {"data": {"k": "v"}})
    api.delete("configmaps", "c3")
    api.delete("configmaps", "c4")
    events = w.poll()
    assert told(events) == [("ADDED", "c0"), ("DELETED", "c1"), ("DELETED", "c3")]
    assert events[1]["object"]["metadata"]["labels"]["odd"] == "1", "the last state that matched"


def test_watch_is_limited_to_its_namespace_and_kind(api: Api) -> None:
    api.post("namespaces", {"metadata": {"name": "other"}})
    w = watch(api, str(api.server.store.revision))
    api.call("POST", "/api/v1/namespaces/other/configmaps", {"metadata": {"name": "there"}})
    api.post("secrets", {"metadata": {"name": "s"}})
    assert w.poll() == []


def test_bookmarks_carry_the_newest_version(api: Api) -> None:
    w = watch(api, str(api.server.store.revision), allowWatchBookmarks="true")
    api.post("secrets", {"metadata": {"name": "s"}})
    w.poll()
    bookmark = w.bookmark()
    assert bookmark is not None
    assert bookmark["object"]["metadata"]["resourceVersion"] == str(api.server.store.revision)
    assert watch(api, "1").bookmark() is None


def test_watch_that_begins_too_late_ends_with_an_error_event(api: Api) -> None:
    api.server.store.compact()
    w = watch(api, "2")
    (event,) = w.poll()
    assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")
    assert w.closed
    api.server.gone_over_http = True
    response = api.frontend.request("GET", api.path("configmaps"), {"watch": "true", "resourceVersion": "2"})
    assert response.status == 410


def test_slow_watch_is_overtaken_by_compaction(api: Api) -> None:
    w = watch(api, str(api.server.store.revision))
    api.delete("configmaps", "c0")
    api.server.store.compact()
    assert [e["type"] for e in w.poll()] == ["ERROR"]
