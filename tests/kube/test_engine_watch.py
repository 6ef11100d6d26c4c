from datetime import UTC, datetime, timedelta

from finetune_operator.core.serving.types import Scrape
from finetune_operator.kube.engine_client import EngineFailed, Mark
from finetune_operator.kube.engine_metrics import parse
from finetune_operator.kube.engine_watch import EngineWatch
from tests.kube.engines import Engine, scrape, target

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
STABLE, CANARY = target("u1", "aaa"), target("u2", "bbb")


class Rig:
    def __init__(self, wanted: Scrape | None = None) -> None:
        self.now = START
        self.engines = {"u1": Engine(), "u2": Engine()}
        self.watch = EngineWatch(wanted or scrape(STABLE, CANARY), START)

    def round(self, *, down: str = "") -> None:
        for one in self.watch.scrape.targets:
            if one.uid == down:
                self.watch.missed(one)
            else:
                self.watch.seen(one, parse(self.engines[one.uid].page()), self.now)
        self.watch.ended(self.now)
        self.now += timedelta(seconds=15)

    def follow(self, wanted: Scrape) -> bool:
        return self.watch.follow(wanted, self.now)

    def requests(self, *, step: bool = False) -> dict[str, int]:
        engines = self.watch.engines()
        assert engines is not None
        totals = engines.step_totals if step else engines.totals
        return {revision: found.requests for revision, found in totals.items()}

    def view(self, uid: str = "u2"):  # type: ignore[no-untyped-def]
        engines = self.watch.engines()
        assert engines is not None
        return engines.pods[uid]


def test_what_was_before_the_window_does_not_count() -> None:
    rig = Rig()
    rig.engines["u1"].serve(*[0.2] * 40)
    assert rig.watch.engines() is None
    rig.round()
    assert rig.requests() == {}
    rig.engines["u1"].serve(0.2, 0.3)
    rig.engines["u2"].serve(0.4)
    rig.round()
    assert rig.requests() == {"aaa": 2, "bbb": 1}
    engines = rig.watch.engines()
    assert engines is not None
    assert (engines.looks, engines.since) == (2, START)


def test_two_pods_of_a_revision_are_one_revision() -> None:
    rig = Rig(scrape(target("u1", "aaa"), target("u2", "aaa")))
    rig.round()
    rig.engines["u1"].serve(0.2)
    rig.engines["u2"].serve(0.2, 0.2)
    rig.round()
    assert rig.requests() == {"aaa": 3}


def test_a_new_step_begins_its_own_sums_and_keeps_the_windows() -> None:
    rig = Rig()
    rig.round()
    rig.engines["u1"].serve(0.2)
    rig.round()
    assert rig.follow(scrape(STABLE, CANARY, step="s2"))
    rig.engines["u1"].serve(0.2, 0.2)
    rig.round()
    assert rig.requests() == {"aaa": 3, "bbb": 0}, "they ended while the window was open"
    assert rig.requests(step=True) == {}, "they may have begun before the step"
    rig.engines["u2"].serve(0.2)
    rig.round()
    assert rig.requests(step=True) == {"aaa": 0, "bbb": 1}


def test_a_new_window_begins_everything_anew() -> None:
    rig = Rig()
    rig.round()
    rig.engines["u1"].serve(0.2)
    rig.round()
    assert rig.follow(scrape(STABLE, CANARY, window="w2"))
    assert rig.watch.engines() is None
    rig.engines["u1"].serve(0.2)
    rig.round()
    assert rig.requests() == {}
    engines = rig.watch.engines()
    assert engines is not None
    assert (engines.window, engines.looks, engines.since) == ("w2", 1, START + timedelta(seconds=30))


def test_other_pods_or_another_interval_leave_the_sums() -> None:
    rig = Rig()
    rig.round()
    rig.engines["u1"].serve(0.2)
    rig.round()
    third = target("u3", "bbb")
    rig.engines["u3"] = Engine()
    assert not rig.follow(scrape(STABLE, third, interval=5.0))
    rig.round()
    assert rig.requests() == {"aaa": 1, "bbb": 0}
    engines = rig.watch.engines()
    assert engines is not None
    assert set(engines.pods) == {"u1", "u3"}


def test_an_engine_that_restarts_loses_nothing_that_was_added() -> None:
    rig = Rig()
    rig.round()
    rig.engines["u2"].serve(0.2, 0.2)
    rig.round()
    rig.engines["u2"].restart()
    rig.engines["u2"].serve(0.2)
    rig.round()
    assert rig.requests()["bbb"] == 3


def test_failed_looks_are_counted_in_a_row() -> None:
    rig = Rig()
    rig.round()
    for _ in range(3):
        rig.round(down="u2")
    assert rig.view().failed_scrapes == 3
    rig.engines["u2"].serve(0.2)
    rig.round()
    assert rig.view().failed_scrapes == 0
    assert rig.requests()["bbb"] == 1, "what was missed is not lost"


def test_an_engine_that_could_not_be_seen_when_the_step_began_is_counted_from_when_it_could() -> None:
    rig = Rig()
    rig.round()
    rig.engines["u2"].serve(0.2)
    rig.follow(scrape(STABLE, CANARY, step="s2"))
    rig.round(down="u2")
    rig.round()
    rig.engines["u2"].serve(0.2, 0.2)
    rig.round()
    assert rig.requests(step=True)["bbb"] == 2


def test_a_pod_that_was_away_for_a_moment_loses_nothing() -> None:
    rig = Rig()
    rig.round()
    rig.engines["u2"].serve(0.2)
    rig.watch.unanswered(CANARY, EngineFailed("POST /v1/completions: connection refused"))
    rig.follow(scrape(STABLE))
    rig.round()
    engines = rig.watch.engines()
    assert engines is not None
    assert set(engines.pods) == {"u1"}
    rig.engines["u2"].serve(0.2)
    rig.follow(scrape(STABLE, CANARY))
    rig.round()
    assert rig.requests()["bbb"] == 2
    assert rig.view().synthetic_error is None, "that was before"


def test_a_pod_that_was_away_when_the_step_began_is_counted_from_its_return() -> None:
    rig = Rig()
    rig.round()
    rig.follow(scrape(STABLE))
    rig.engines["u2"].serve(0.2)
    rig.follow(scrape(STABLE, step="s2"))
    rig.round()
    rig.follow(scrape(STABLE, CANARY, step="s2"))
    rig.round()
    rig.engines["u2"].serve(0.2, 0.2)
    rig.round()
    assert rig.requests(step=True)["bbb"] == 2


def test_busy_since_the_look_after_which_nothing_came() -> None:
    rig = Rig()
    canary = rig.engines["u2"]
    canary.running = 2
    canary.serve(0.2)
    rig.round()
    canary.serve(0.2)
    rig.round()
    assert rig.view().busy_since is None, "something ended"
    rig.round()
    assert rig.view().busy_since == START + timedelta(seconds=15)
    rig.round()
    assert rig.view().busy_since == START + timedelta(seconds=15)
    assert (rig.view().running, rig.view().waiting) == (2, 0)
    canary.tokens += 5
    rig.round()
    assert rig.view().busy_since is None, "a long answer that grows is no stall"


def test_an_idle_engine_is_not_busy_and_one_that_got_its_first_request_only_since_then() -> None:
    rig = Rig()
    rig.round()
    rig.round()
    assert rig.view().busy_since is None
    rig.engines["u2"].waiting = 1
    rig.round()
    assert rig.view().busy_since == START + timedelta(seconds=30)


def test_aborted_requests_are_no_sign_of_life() -> None:
    rig = Rig()
    rig.engines["u2"].running = 2
    rig.round()
    rig.engines["u2"].finished["abort"] += 1
    rig.round()
    assert rig.view().busy_since == START


def test_our_own_completions_are_not_the_revisions() -> None:
    rig = Rig()
    rig.round()
    assert rig.watch.idle(CANARY)
    rig.engines["u2"].synthetic(0.1)
    rig.watch.answered(CANARY, 0.1)
    rig.round()
    assert rig.requests()["bbb"] == 0
    assert rig.watch.idle(CANARY)
    rig.engines["u2"].serve(0.2)
    rig.round()
    assert not rig.watch.idle(CANARY)


def test_a_completion_that_fails_is_told_until_something_works() -> None:
    rig = Rig()
    rig.round()
    rig.engines["u2"].refuse()
    rig.watch.unanswered(CANARY, EngineFailed("POST /v1/completions answered 500", Mark.REFUSED))
    assert rig.view().synthetic_error == "POST /v1/completions answered 500"
    rig.round()
    engines = rig.watch.engines()
    assert engines is not None
    assert engines.totals["bbb"].errors == 0, "our own request is no error of the revision's traffic"
    rig.watch.well(CANARY)
    assert rig.view().synthetic_error is None


def test_an_answer_from_a_pod_that_is_no_longer_looked_at_is_dropped() -> None:
    rig = Rig()
    rig.round()
    rig.follow(scrape(STABLE))
    rig.watch.answered(CANARY, 0.1)
    rig.watch.unanswered(CANARY, EngineFailed("late"))
    engines = rig.watch.engines()
    assert engines is not None
    assert set(engines.pods) == {"u1"}
