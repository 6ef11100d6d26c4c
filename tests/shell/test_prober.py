import asyncio
import itertools
from collections.abc import Callable, Coroutine
from typing import Any

from finetune_api.reports import Progress
from finetune_operator.core.types import Probe
from finetune_operator.kube.keys import job_key
from finetune_operator.kube.probe import ProbeFailed
from finetune_operator.shell.lanes import Lane
from finetune_operator.shell.prober import Prober
from tests.shell.fakeloop import clock, run, wall

KEY = job_key("team", "bot")


def progress(step: int = 1, *, attempt: int = 1, stopping: bool = False, committed: int | None = None) -> Progress:
    at = "2026-01-02T03:04:05Z"
    requested: dict[str, Any] = {"stopRequestedAt": at} if stopping else {}
    if committed is not None:
        requested["checkpoint"] = {
            "attempt": attempt,
            "step": committed,
            "uri": "s3://runs/x",
            "bytes": 1,
            "seconds": 1,
            "digest": "d",
            "at": at,
        }
    return Progress.model_validate(
        {"attempt": attempt, "stage": "Training", "step": step, "updatedAt": at, **requested}
    )


def probe(attempt: int = 1, uid: str = "u1", **more: Any) -> Probe:
    return Probe(attempt=attempt, pod="p", pod_uid=uid, ip="10.0.0.1", token="t", **more)


class FakePod:
    """Answers with what the test sets; notes when it was called."""

    def __init__(self) -> None:
        self.polls: list[float] = []
        self.posts: list[tuple[float, str, bool]] = []
        self.down = False
        self.slow = 0.0
        self.stopping = False
        self.obeys = True
        self.step = 0
        self.committed: int | None = None
        self.running = self.peak = 0

    async def progress(self, probe: Probe) -> Progress:
        self.polls.append(clock())
        self.running += 1
        self.peak = max(self.peak, self.running)
        try:
            await asyncio.sleep(self.slow)
        finally:
            self.running -= 1
        if self.down:
            raise ProbeFailed("no answer")
        self.step += 1
        return progress(self.step, attempt=probe.attempt, stopping=self.stopping, committed=self.committed)

    async def request_checkpoint(self, probe: Probe, reason: str, *, stop: bool) -> None:
        self.posts.append((clock(), reason, stop))
        if self.down:
            raise ProbeFailed("no answer")
        self.stopping = self.stopping or (stop and self.obeys)


def with_prober(story: Callable[[Prober, FakePod, list[Any]], Coroutine[Any, Any, None]], **settings: Any) -> None:
    async def main() -> None:
        pod, woken = FakePod(), []  # type: ignore[var-annotated]
        settings.setdefault("poll_seconds", 2.0)
        prober = Prober(pod, on_sample=lambda key, lane: woken.append(key), clock=clock, now=wall, **settings)
        task = asyncio.create_task(prober.run())
        await story(prober, pod, woken)
        task.cancel()

    run(main())


def gaps(times: list[float]) -> list[float]:
    return [round(b - a, 2) for a, b in itertools.pairwise(times)]


def test_polls_at_once_and_then_regularly() -> None:
    async def story(prober: Prober, pod: FakePod, woken: list[Any]) -> None:
        began = clock()
        prober.want(KEY, probe())
        await asyncio.sleep(9)
        assert pod.polls[0] == began
        assert gaps(pod.polls) == [2.0] * 4
        sample = prober.sample(KEY)
        assert sample is not None
        assert sample.progress is not None
        assert (sample.attempt, sample.progress.step, sample.failing_since) == (1, 5, None)
        assert woken == [KEY] * 5

    with_prober(story)


def test_wanting_the_same_again_does_not_poll_more() -> None:
    async def story(prober: Prober, pod: FakePod, woken: list[Any]) -> None:
        for _ in range(10):
            prober.want(KEY, probe())
            await asyncio.sleep(1)
        assert len(pod.polls) == 5

    with_prober(story)


def test_no_longer_wanted_is_no_longer_polled_but_the_last_sample_stays() -> None:
    async def story(prober: Prober, pod: FakePod, woken: list[Any]) -> None:
        prober.want(KEY, probe())
        await asyncio.sleep(1)
        prober.want(KEY, None)
        await asyncio.sleep(60)
        assert len(pod.polls) == 1
        assert prober.sample(KEY) is not None
        prober.forget(KEY)
        assert prober.sample(KEY) is None

    with_prober(story)


def test_a_step_is_mere_progress_and_other_news_are_more() -> None:
    async def main() -> None:
        pod, told = FakePod(), []  # type: ignore[var-annotated]
        prober = Prober(pod, on_sample=lambda key, lane: told.append(lane), clock=clock, now=wall, poll_seconds=2.0)
        task = asyncio.create_task(prober.run())
        prober.want(KEY, probe())
        await asyncio.sleep(5)
        assert told == [Lane.WORK, Lane.PROGRESS, Lane.PROGRESS], "the first word, then steps"
        pod.stopping = True
        await asyncio.sleep(2)
        assert told[-1] is Lane.CHANGE, "the stop arrived"
        await asyncio.sleep(2)
        assert told[-1] is Lane.PROGRESS
        pod.committed = 7
        await asyncio.sleep(2)
        assert told[-1] is Lane.CHANGE, "the checkpoint that was asked for"
        prober.want(KEY, probe(attempt=2, uid="u2"))
        await asyncio.sleep(1)
        assert told[-1] is Lane.WORK, "another attempt"
        pod.down = True
        await asyncio.sleep(5)
        assert told[-1] is Lane.PROGRESS, "failing polls end nothing"
        task.cancel()

    run(main())


def test_failing_polls_say_since_when_and_slow_down() -> None:
    async def story(prober: Prober, pod: FakePod, woken: list[Any]) -> None:
        prober.want(KEY, probe())
        await asyncio.sleep(1)
        pod.down = True
        await asyncio.sleep(100)
        sample = prober.sample(KEY)
        assert sample is not None
        assert sample.progress is not None, "the last good report is kept"
        assert sample.failing_since is not None
        assert gaps(pod.polls)[-2:] == [15.0, 15.0]
        assert len(woken) == 2, "one good report, one change to failing"
        pod.down = False
        await asyncio.sleep(20)
        sample = prober.sample(KEY)
        assert sample is not None
        assert sample.failing_since is None

    with_prober(story)


def test_one_call_at_a_time_per_job() -> None:
    async def story(prober: Prober, pod: FakePod, woken: list[Any]) -> None:
        pod.slow = 7.0
        prober.want(KEY, probe())
        for n in range(20):
            prober.want(KEY, probe(stop=f"reason {n}"))
            await asyncio.sleep(1)
        assert pod.peak == 1

    with_prober(story)


def test_all_together_are_bounded_and_nobody_starves() -> None:
    async def story(prober: Prober, pod: FakePod, woken: list[Any]) -> None:
        pod.slow = 0.5
        for n in range(200):
            prober.want(job_key("team", f"bot{n}"), probe())
        await asyncio.sleep(60)
        assert pod.peak == 8
        assert len(set(woken)) == 200

    with_prober(story, concurrency=8)


def test_many_jobs_are_polled_less_often() -> None:
    async def story(prober: Prober, pod: FakePod, woken: list[Any]) -> None:
        for n in range(500):
            prober.want(job_key("team", f"bot{n}"), probe())
        assert prober.interval() == 10.0
        await asyncio.sleep(100)
        assert len(pod.polls) <= 100 * 50 + 500

    with_prober(story, max_rate=50.0)


def test_a_stop_is_posted_at_once_and_not_again_after_it_arrived() -> None:
    async def story(prober: Prober, pod: FakePod, woken: list[Any]) -> None:
        prober.want(KEY, probe())
        await asyncio.sleep(0.5)
        asked = clock()
        prober.want(KEY, probe(stop="spot reclaim"))
        await asyncio.sleep(60)
        assert pod.posts == [(asked, "spot reclaim", True)]

    with_prober(story)


def test_a_stop_is_repeated_with_growing_pauses_until_progress_shows_it() -> None:
    async def story(prober: Prober, pod: FakePod, woken: list[Any]) -> None:
        pod.obeys = False
        prober.want(KEY, probe(stop="spot reclaim"))
        await asyncio.sleep(70)
        pauses = gaps([at for at, _, _ in pod.posts])
        assert pauses[:3] == [1.0, 2.0, 4.0]
        assert max(pauses) <= 17.0
        pod.stopping = True
        await asyncio.sleep(20)
        count = len(pod.posts)
        await asyncio.sleep(60)
        assert len(pod.posts) <= count + 1

    with_prober(story)


def test_a_checkpoint_without_stop_is_asked_for_once() -> None:
    async def story(prober: Prober, pod: FakePod, woken: list[Any]) -> None:
        for _ in range(30):
            prober.want(KEY, probe(checkpoint="cordon"))
            await asyncio.sleep(1)
        assert [(reason, stop) for _, reason, stop in pod.posts] == [("cordon", False)]
        prober.want(KEY, probe(checkpoint="another taint"))
        await asyncio.sleep(5)
        assert [reason for _, reason, _ in pod.posts] == ["cordon", "another taint"]

    with_prober(story)


def test_a_checkpoint_that_could_not_be_asked_for_is_asked_again() -> None:
    async def story(prober: Prober, pod: FakePod, woken: list[Any]) -> None:
        pod.down = True
        prober.want(KEY, probe(checkpoint="cordon"))
        await asyncio.sleep(3)
        pod.down = False
        await asyncio.sleep(20)
        failed = [at for at, _, _ in pod.posts]
        assert len(failed) >= 2
        count = len(pod.posts)
        await asyncio.sleep(60)
        assert len(pod.posts) == count

    with_prober(story)


def test_a_new_attempt_begins_without_the_old_sample_and_its_requests() -> None:
    async def story(prober: Prober, pod: FakePod, woken: list[Any]) -> None:
        prober.want(KEY, probe(stop="reclaim"))
        await asyncio.sleep(1)
        pod.stopping = False
        pod.slow = 1.0
        prober.want(KEY, probe(attempt=2, uid="u2", stop="reclaim"))
        assert prober.sample(KEY) is None
        await asyncio.sleep(3)
        sample = prober.sample(KEY)
        assert sample is not None
        assert sample.attempt == 2
        assert len(pod.posts) == 2

    with_prober(story)


def test_an_answer_about_what_is_no_longer_wanted_is_dropped() -> None:
    async def story(prober: Prober, pod: FakePod, woken: list[Any]) -> None:
        pod.slow = 5.0
        prober.want(KEY, probe())
        await asyncio.sleep(1)
        prober.forget(KEY)
        await asyncio.sleep(10)
        assert prober.sample(KEY) is None
        assert woken == []

    with_prober(story)


def test_a_crowd_of_new_targets_is_polled_one_after_another_and_stays_spread() -> None:
    async def story(prober: Prober, pod: FakePod, woken: list[Any]) -> None:
        for n in range(200):
            prober.want(job_key("team", f"job-{n}"), probe(uid=f"u{n}"))
        await asyncio.sleep(11.99)
        assert len(pod.polls) == 600
        assert min(gaps(pod.polls)) == max(gaps(pod.polls)) == 0.02

    with_prober(story, max_rate=50.0)


def test_a_request_to_stop_does_not_wait_behind_a_crowd() -> None:
    async def story(prober: Prober, pod: FakePod, woken: list[Any]) -> None:
        for n in range(200):
            prober.want(job_key("team", f"job-{n}"), probe(uid=f"u{n}"))
        began = clock()
        prober.want(KEY, probe(stop="spot"))
        await asyncio.sleep(0.01)
        assert pod.posts == [(began, "spot", True)]

    with_prober(story, max_rate=50.0)
