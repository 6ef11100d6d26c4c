import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

from finetune_operator.core.serving.types import Target
from finetune_operator.kube.engine_client import EngineFailed, Mark
from finetune_operator.kube.keys import Key, deployment_key
from finetune_operator.shell.scraper import Scraper
from tests.kube.engines import Engine, scrape, target
from tests.shell.fakeloop import EPOCH, clock, run, wall

KEY = deployment_key("team", "bot")
STABLE, CANARY = target("u1", "aaa"), target("u2", "bbb")


class Pods:
    """Engines by pod uid; each completion takes `takes` seconds, None: it never ends."""

    def __init__(self) -> None:
        self.engines = {"u1": Engine(), "u2": Engine()}
        self.looks: list[tuple[float, str]] = []
        self.asked: list[tuple[float, str]] = []
        self.takes: float | None = 0.25
        self.down: set[str] = set()
        self.slow = 0.0
        self.busy = self.peak = 0

    async def metrics(self, target: Target) -> bytes:
        self.looks.append((clock(), target.uid))
        self.busy += 1
        self.peak = max(self.peak, self.busy)
        await asyncio.sleep(self.slow)
        self.busy -= 1
        if target.uid in self.down:
            raise EngineFailed("GET /metrics: connection refused")
        return self.engines[target.uid].page()

    async def complete(self, target: Target, timeout: float) -> None:
        self.asked.append((clock(), target.uid))
        if self.takes is None:
            await asyncio.sleep(timeout)
            raise EngineFailed(f"no answer within {timeout:g} s", Mark.GIVEN_UP)
        await asyncio.sleep(self.takes)
        self.engines[target.uid].synthetic(self.takes)


def with_scraper(story: Callable[[Scraper, Pods, list[Key]], Coroutine[Any, Any, None]], **settings: Any) -> None:
    async def main() -> None:
        pods, woken = Pods(), []  # type: ignore[var-annotated]
        scraper = Scraper(pods, on_look=woken.append, clock=clock, now=wall, **settings)
        task = asyncio.create_task(scraper.run())
        await asyncio.sleep(0)
        await story(scraper, pods, woken)
        task.cancel()
        await asyncio.wait({task})
        await asyncio.sleep(1)
        left = {task.get_name() for task in asyncio.all_tasks()} - {asyncio.current_task().get_name()}  # type: ignore[union-attr]
        assert not left, "nothing goes on after the end"

    run(main())


def test_all_engines_are_looked_at_every_interval_and_the_key_is_woken() -> None:
    async def story(scraper: Scraper, pods: Pods, woken: list[Key]) -> None:
        began = clock()
        assert scraper.engines(KEY) is None
        scraper.want(KEY, scrape(STABLE, CANARY))
        await asyncio.sleep(46)
        assert [round(at - began, 3) for at, uid in pods.looks if uid == "u2"] == [0.0, 15.0, 30.0, 45.0]
        assert len(pods.looks) == 8
        assert woken == [KEY] * 4
        engines = scraper.engines(KEY)
        assert engines is not None
        assert (engines.window, engines.step, engines.looks, engines.since) == ("w1", "s1", 4, EPOCH)
        assert set(engines.pods) == {"u1", "u2"}

    with_scraper(story)


def test_what_happened_between_looks_is_summed_without_our_own_requests() -> None:
    async def story(scraper: Scraper, pods: Pods, woken: list[Key]) -> None:
        scraper.want(KEY, scrape(STABLE, CANARY))
        await asyncio.sleep(5)
        pods.engines["u1"].serve(0.2, 0.3)
        await asyncio.sleep(60)
        engines = scraper.engines(KEY)
        assert engines is not None
        assert {revision: totals.requests for revision, totals in engines.totals.items()} == {"aaa": 2, "bbb": 0}
        assert len(pods.asked) > 4

    with_scraper(story)


def test_only_an_engine_that_brought_nothing_forth_is_asked_for_a_token() -> None:
    async def story(scraper: Scraper, pods: Pods, woken: list[Key]) -> None:
        scraper.want(KEY, scrape(STABLE, CANARY))
        for _ in range(4):
            await asyncio.sleep(1)
            pods.engines["u1"].serve(0.2)
            await asyncio.sleep(14)
        assert [uid for _, uid in pods.asked].count("u1") == 1, "before anything was known of it"
        assert [uid for _, uid in pods.asked].count("u2") >= 4

    with_scraper(story)


def test_no_completion_is_asked_for_where_the_plan_wants_none() -> None:
    async def story(scraper: Scraper, pods: Pods, woken: list[Key]) -> None:
        scraper.want(KEY, scrape(STABLE, CANARY, synthetic=False))
        await asyncio.sleep(46)
        assert pods.asked == []

    with_scraper(story)


def test_a_completion_that_never_comes_wakes_the_plan_when_patience_ends() -> None:
    async def story(scraper: Scraper, pods: Pods, woken: list[Key]) -> None:
        pods.takes = None
        scraper.want(KEY, scrape(CANARY, interval=20.0, timeout=30.0))
        await asyncio.sleep(29.9)
        engines = scraper.engines(KEY)
        assert engines is not None
        assert engines.pods["u2"].synthetic_error is None
        count = len(woken)
        await asyncio.sleep(0.2)
        assert len(woken) == count + 1
        engines = scraper.engines(KEY)
        assert engines is not None
        assert engines.pods["u2"].synthetic_error == "no answer within 30 s"
        assert len(pods.asked) == 1, "one at a time, however many rounds pass"
        pods.takes = 0.1
        await asyncio.sleep(60)
        engines = scraper.engines(KEY)
        assert engines is not None
        assert engines.pods["u2"].synthetic_error is None

    with_scraper(story)


def test_others_requests_show_that_it_works_again() -> None:
    async def story(scraper: Scraper, pods: Pods, woken: list[Key]) -> None:
        pods.takes = None
        scraper.want(KEY, scrape(CANARY, timeout=5.0))
        await asyncio.sleep(10)
        assert scraper.engines(KEY).pods["u2"].synthetic_error  # type: ignore[union-attr]
        pods.engines["u2"].serve(0.2)
        await asyncio.sleep(6)
        assert scraper.engines(KEY).pods["u2"].synthetic_error is None  # type: ignore[union-attr]

    with_scraper(story)


def test_an_engine_that_does_not_answer_is_counted_and_hurts_no_other() -> None:
    async def story(scraper: Scraper, pods: Pods, woken: list[Key]) -> None:
        pods.down.add("u2")
        scraper.want(KEY, scrape(STABLE, CANARY))
        await asyncio.sleep(31)
        engines = scraper.engines(KEY)
        assert engines is not None
        assert engines.pods["u2"].failed_scrapes == 3
        assert engines.pods["u2"].scraped_at is None
        assert engines.pods["u1"].scraped_at == EPOCH + timedelta(seconds=30)
        assert all(uid == "u1" for _, uid in pods.asked)

    with_scraper(story)


def test_a_page_of_something_else_is_a_failed_look() -> None:
    async def story(scraper: Scraper, pods: Pods, woken: list[Key]) -> None:
        pods.engines["u2"].page = lambda: b"<html>"  # type: ignore[method-assign]
        scraper.want(KEY, scrape(CANARY))
        await asyncio.sleep(1)
        assert scraper.engines(KEY).pods["u2"].failed_scrapes == 1  # type: ignore[union-attr]

    with_scraper(story)


def test_a_new_step_begins_with_a_look_at_once() -> None:
    async def story(scraper: Scraper, pods: Pods, woken: list[Key]) -> None:
        scraper.want(KEY, scrape(STABLE, CANARY))
        await asyncio.sleep(20)
        pods.engines["u1"].serve(0.2)
        looked = len(pods.looks)
        scraper.want(KEY, scrape(STABLE, CANARY, step="s2"))
        engines = scraper.engines(KEY)
        assert engines is not None
        assert (engines.step, engines.step_totals) == ("s2", {}), "at no time are the old sums the new step's"
        await asyncio.sleep(0.5)
        assert len(pods.looks) == looked + 2
        pods.engines["u2"].serve(0.2)
        await asyncio.sleep(15)
        engines = scraper.engines(KEY)
        assert engines is not None
        assert {r: t.requests for r, t in engines.step_totals.items()} == {"aaa": 0, "bbb": 1}
        assert {r: t.requests for r, t in engines.totals.items()} == {"aaa": 1, "bbb": 1}

    with_scraper(story)


def test_a_new_window_hides_the_old_one_at_once() -> None:
    async def story(scraper: Scraper, pods: Pods, woken: list[Key]) -> None:
        scraper.want(KEY, scrape(STABLE, CANARY))
        await asyncio.sleep(20)
        pods.slow = 1.0
        scraper.want(KEY, scrape(STABLE, CANARY, window="w2"))
        assert scraper.engines(KEY) is None
        await asyncio.sleep(0.5)
        assert scraper.engines(KEY) is None
        await asyncio.sleep(1)
        assert scraper.engines(KEY).window == "w2"  # type: ignore[union-attr]

    with_scraper(story)


def test_a_window_that_changes_during_a_round_begins_with_the_next() -> None:
    async def story(scraper: Scraper, pods: Pods, woken: list[Key]) -> None:
        pods.slow = 2.0
        scraper.want(KEY, scrape(STABLE, CANARY))
        await asyncio.sleep(1)
        scraper.want(KEY, scrape(STABLE, CANARY, window="w2"))
        await asyncio.sleep(1.5)
        assert scraper.engines(KEY) is None
        assert woken == []
        await asyncio.sleep(2)
        assert scraper.engines(KEY).looks == 1  # type: ignore[union-attr]

    with_scraper(story)


def test_wanting_the_same_again_changes_nothing() -> None:
    async def story(scraper: Scraper, pods: Pods, woken: list[Key]) -> None:
        for _ in range(29):
            scraper.want(KEY, scrape(STABLE, CANARY))
            await asyncio.sleep(1)
        assert len(pods.looks) == 4

    with_scraper(story)


def test_no_longer_wanted_ends_looking_and_the_window() -> None:
    async def story(scraper: Scraper, pods: Pods, woken: list[Key]) -> None:
        pods.takes = None
        scraper.want(KEY, scrape(STABLE))
        await asyncio.sleep(1)
        scraper.want(KEY, None)
        await asyncio.sleep(15)
        assert scraper.engines(KEY) is None
        await asyncio.sleep(100)
        assert len(pods.looks) == 1
        assert woken == [KEY]
        scraper.want(KEY, scrape(STABLE))
        await asyncio.sleep(1)
        assert scraper.engines(KEY).looks == 1  # type: ignore[union-attr]

    with_scraper(story)


def test_one_pass_without_an_opinion_ends_nothing() -> None:
    async def story(scraper: Scraper, pods: Pods, woken: list[Key]) -> None:
        scraper.want(KEY, scrape(STABLE))
        await asyncio.sleep(1)
        pods.engines["u1"].serve(0.2)
        await asyncio.sleep(15)
        scraper.want(KEY, None)
        assert scraper.engines(KEY) is not None
        scraper.want(KEY, scrape(STABLE))
        await asyncio.sleep(30)
        engines = scraper.engines(KEY)
        assert engines is not None
        assert (engines.looks, engines.totals["aaa"].requests) == (4, 1)

    with_scraper(story)


def test_many_looks_at_once_are_bounded() -> None:
    async def story(scraper: Scraper, pods: Pods, woken: list[Key]) -> None:
        pods.slow = 0.1
        for n in range(40):
            pods.engines[f"p{n}"] = Engine()
            scraper.want(deployment_key("team", f"bot{n}"), scrape(target(f"p{n}", "aaa")))
        await asyncio.sleep(10)
        assert pods.peak == 8
        assert len(set(woken)) == 40

    with_scraper(story, concurrency=8)


def test_outcomes_are_counted() -> None:
    counted: list[tuple[str, str]] = []

    async def story(scraper: Scraper, pods: Pods, woken: list[Key]) -> None:
        pods.down.add("u2")
        scraper.want(KEY, scrape(STABLE, CANARY))
        await asyncio.sleep(1)
        assert sorted(counted) == [("scrape", "failed"), ("scrape", "ok"), ("synthetic", "ok")]

    with_scraper(story, count=lambda what, outcome: counted.append((what, outcome)))
