import asyncio

from finetune_operator.shell.lanes import Lane
from finetune_operator.shell.queue import WorkQueue
from tests.shell.fakeloop import clock, run


def queue(jitter: float = 0.0) -> WorkQueue[str]:
    return WorkQueue(clock=clock, jitter=lambda: jitter, base=1.0, ceiling=60.0)


def test_a_key_waits_once_and_in_order() -> None:
    async def story() -> None:
        q = queue()
        for key in ("a", "b", "a", "a"):
            q.add(key)
        assert len(q) == 2
        assert [await q.take(), await q.take()] == ["a", "b"]

    run(story())


def test_a_key_is_never_worked_on_twice_at_once() -> None:
    async def story() -> None:
        q = queue()
        q.add("a")
        assert await q.take() == "a"
        q.add("a")
        q.add("a")
        assert len(q) == 0
        other = asyncio.create_task(q.take())
        await asyncio.sleep(1)
        assert not other.done()
        q.done("a")
        assert await other == "a"
        q.done("a")
        assert (len(q), q.delayed, q.running) == (0, 0, 0)

    run(story())


def test_many_workers_take_every_key_once() -> None:
    async def story() -> None:
        q = queue()
        taken: list[str] = []
        active: set[str] = set()

        async def work() -> None:
            while True:
                key = await q.take()
                assert key not in active
                active.add(key)
                await asyncio.sleep(0.5)
                active.discard(key)
                taken.append(key)
                q.done(key)

        workers = [asyncio.create_task(work()) for _ in range(4)]
        for n in range(40):
            q.add(f"k{n}")
        began = clock()
        while q.running or len(q):  # noqa: ASYNC110 - fake time
            await asyncio.sleep(0.1)
        assert clock() - began < 40 * 0.5 / 4 + 1
        assert sorted(taken) == sorted(f"k{n}" for n in range(40))
        for worker in workers:
            worker.cancel()

    run(story())


def test_delayed_keys_come_when_they_are_due() -> None:
    async def story() -> None:
        q = queue()
        began = clock()
        q.add_after("late", 30)
        q.add_after("soon", 5)
        got = []
        for _ in range(2):
            key = await q.take()
            got.append((key, round(clock() - began, 3)))
            q.done(key)
        assert got == [("soon", 5.0), ("late", 30.0)]

    run(story())


def test_the_earliest_time_counts() -> None:
    async def story() -> None:
        q = queue()
        began = clock()
        q.add_after("a", 30)
        q.add_after("a", 10)
        q.add_after("a", 20)
        assert q.delayed == 1
        await q.take()
        assert round(clock() - began, 3) == 10
        q.done("a")
        assert q.delayed == 0

    run(story())


def test_an_event_overtakes_a_delay() -> None:
    async def story() -> None:
        q = queue()
        q.add_after("a", 30)
        q.add("a")
        began = clock()
        await q.take()
        assert clock() == began
        q.done("a")
        assert (len(q), q.delayed) == (0, 0)

    run(story())


def test_failures_wait_longer_each_time_up_to_a_ceiling_and_start_over() -> None:
    async def story() -> None:
        q = queue(jitter=0.999999)
        delays = []
        for _ in range(9):
            delays.append(round(q.add_failed("a")))
            await q.take()
            q.done("a")
        assert delays == [1, 2, 4, 8, 16, 32, 60, 60, 60]
        q.forget_failures("a")
        assert round(q.add_failed("a")) == 1

    run(story())


def test_jitter_takes_up_to_half_and_a_servers_wish_is_respected() -> None:
    async def story() -> None:
        q = queue(jitter=0.0)
        assert q.add_failed("a") == 0.5
        assert q.add_failed("a", at_least=25.0) == 25.0

    run(story())


def test_a_closed_queue_gives_out_nothing_and_lets_the_rest_finish() -> None:
    async def story() -> None:
        q = queue()
        q.add("a")
        q.add("b")
        await q.take()
        q.close()
        other = asyncio.create_task(q.take())
        done = asyncio.create_task(q.drained())
        await asyncio.sleep(1)
        assert not other.done()
        assert not done.done()
        q.done("a")
        await done
        assert not other.done()
        other.cancel()

    run(story())


def test_what_is_urgent_goes_before_what_is_routine() -> None:
    async def story() -> None:
        q = queue()
        for n in range(3):
            q.add(f"progress-{n}", Lane.PROGRESS)
        q.add("event")
        assert [await q.take() for _ in range(4)] == ["event", "progress-0", "progress-1", "progress-2"]

    run(story())


def test_an_event_makes_a_waiting_routine_key_urgent_and_it_is_worked_on_once() -> None:
    async def story() -> None:
        q = queue()
        for key in ("a", "b", "c"):
            q.add(key, Lane.PROGRESS)
        q.add("c")
        q.add("b", Lane.PROGRESS)
        assert len(q) == 3
        taken = [await q.take() for _ in range(3)]
        assert taken == ["c", "a", "b"]
        for key in taken:
            q.done(key)
        assert (len(q), q.running) == (0, 0)

    run(story())


def test_an_urgent_key_does_not_become_routine_by_progress() -> None:
    async def story() -> None:
        q = queue()
        q.add("other", Lane.PROGRESS)
        q.add("a")
        q.add("a", Lane.PROGRESS)
        assert await q.take() == "a"

    run(story())


def test_routine_keys_never_hold_all_workers() -> None:
    async def story() -> None:
        q: WorkQueue[str] = WorkQueue(clock=clock, jitter=lambda: 0.0, workers=8)
        for n in range(5):
            q.add(f"progress-{n}", Lane.PROGRESS)
        taken = [await q.take(), await q.take()]
        third = asyncio.create_task(q.take())
        await asyncio.sleep(1)
        assert not third.done(), "two run, and no more"
        q.add("event")
        assert await third == "event"
        waiting = asyncio.create_task(q.take())
        await asyncio.sleep(1)
        assert not waiting.done()
        q.done(taken[0])
        assert await waiting == "progress-2"
        q.done("event")
        q.done(taken[1])
        assert await q.take() == "progress-3"

    run(story())


def test_what_follows_from_a_notice_gives_way_to_other_notices() -> None:
    async def story() -> None:
        q = queue()
        q.add("gang-1", Lane.NOTICE)
        assert await q.take() == "gang-1"
        q.repeat("gang-1")
        q.add("gang-2", Lane.NOTICE)
        q.add("new")
        q.done("gang-1")
        assert [await q.take(), await q.take(), await q.take()] == ["gang-2", "gang-1", "new"]

    run(story())


def test_progress_that_is_repeated_stays_progress() -> None:
    async def story() -> None:
        q = queue()
        q.add("progress", Lane.PROGRESS)
        await q.take()
        q.repeat("progress")
        q.add("other")
        q.done("progress")
        assert [await q.take(), await q.take()] == ["other", "progress"]

    run(story())


def test_a_failed_notice_comes_back_as_a_notice() -> None:
    async def story() -> None:
        q = queue()
        q.add("gang", Lane.NOTICE)
        await q.take()
        q.add_failed("gang")
        q.add_after("new", 0.5)
        q.done("gang")
        await asyncio.sleep(2)
        assert [await q.take(), await q.take()] == ["gang", "new"]

    run(story())


def test_it_tells_how_long_each_key_waited_for_a_worker() -> None:
    async def story() -> None:
        told: list[tuple[Lane, float]] = []
        q: WorkQueue[str] = WorkQueue(
            clock=clock, jitter=lambda: 0.0, waited=lambda lane, seconds: told.append((lane, round(seconds, 3)))
        )
        q.add("a", Lane.PROGRESS)
        q.add_after("b", 2)
        await asyncio.sleep(5)
        await q.take()
        await q.take()
        assert told == [(Lane.WORK, 3.0), (Lane.PROGRESS, 5.0)]

    run(story())


class Gangs:
    """An API server that answers each write after `write` seconds, and the passes of gangs that are preempted.

    A preempted gang needs its notice (1 write), then its end and its next attempt (6 writes). `runs` others have new
    numbers every 15 s (1 write each), and new jobs need 4 writes.
    """

    def __init__(self, *, write: float, workers: int = 16) -> None:
        self.queue: WorkQueue[str] = WorkQueue(clock=clock, jitter=lambda: 0.0, workers=workers)
        self.write, self.workers = write, workers
        self.at: dict[str, float] = {}
        self.told: dict[str, float] = {}
        self.over: dict[str, float] = {}
        self.started: dict[str, float] = {}
        self.progress: dict[str, list[float]] = {}

    async def work(self) -> None:
        while True:
            key = await self.queue.take()
            kind = key.partition("-")[0]
            if kind == "gang" and key not in self.told:
                await asyncio.sleep(self.write)
                self.told[key] = clock() - self.at[key]
                self.queue.repeat(key)
            elif kind == "gang":
                await asyncio.sleep(6 * self.write)
                self.over[key] = clock() - self.at[key]
            elif kind == "new":
                await asyncio.sleep(4 * self.write)
                self.started[key] = clock() - self.at[key]
            else:
                await asyncio.sleep(self.write)
                self.progress.setdefault(key, []).append(clock())
            self.queue.done(key)

    async def report(self, key: str) -> None:
        while True:
            self.queue.add(key, Lane.PROGRESS)
            await asyncio.sleep(15)

    async def live(self, *, runs: int, new: int, preempted: int, rate: float, seconds: float) -> None:
        tasks = [asyncio.create_task(self.work()) for _ in range(self.workers)]
        tasks += [asyncio.create_task(self.report(f"run-{n}")) for n in range(runs)]
        for n in range(new):
            self.at[f"new-{n}"] = clock()
            self.queue.add(f"new-{n}")
        for n in range(preempted):
            self.at[f"gang-{n}"] = clock()
            self.queue.add(f"gang-{n}", Lane.NOTICE)
            await asyncio.sleep(1 / rate)
        await asyncio.sleep(seconds)
        for task in tasks:
            task.cancel()


def test_a_notice_is_told_at_once_however_slow_the_server_and_long_the_queue() -> None:
    """A write takes 0.6 s. 1,000 runs report, 1,000 jobs are new, 5 gangs a second lose their pods: the notice of
    each is told after its own write and at most one and a half others, though the queue is minutes long."""

    async def story() -> None:
        gangs = Gangs(write=0.6)
        await gangs.live(runs=1000, new=1000, preempted=150, rate=5.0, seconds=600)
        late = sorted(gangs.told.values())
        assert len(late) == 150
        assert late[len(late) // 2] <= 1.0
        assert late[-1] <= 1.5
        assert max(gangs.over.values()) > 10, "what follows waited"
        assert len(gangs.over) == 150
        assert len(gangs.started) == 1000

    run(story())


def test_a_node_of_many_gangs_has_all_notices_told_before_most_next_attempts() -> None:
    async def story() -> None:
        gangs = Gangs(write=0.1)
        await gangs.live(runs=1000, new=0, preempted=150, rate=1e6, seconds=120)
        told = max(gangs.told.values())
        assert told <= 3.0, "150 writes of 0.1 s by 16 workers take 1 s"
        early = [after for after in gangs.over.values() if after < told]
        assert len(early) <= 30
        assert len(gangs.over) == 150

    run(story())


def test_no_lane_starves_however_long_the_flood_above_it() -> None:
    """Notices without end: every key of every lane is still taken."""

    async def story() -> None:
        q: WorkQueue[str] = WorkQueue(clock=clock, jitter=lambda: 0.0, workers=4)
        below = {lane: [f"{lane.name}-{n}" for n in range(10)] for lane in (Lane.CHANGE, Lane.WORK, Lane.PROGRESS)}
        for lane, keys in below.items():
            for key in keys:
                q.add(key, lane)
        taken: list[str] = []
        for n in range(400):
            q.add(f"flood-{n}", Lane.NOTICE)
            q.add(f"flood-again-{n}", Lane.NOTICE)
            key = await q.take()
            await asyncio.sleep(0.1)
            taken.append(key)
            q.done(key)
        for lane, keys in below.items():
            turns = [taken.index(key) for key in keys]
            assert turns == sorted(turns)
            gaps = [b - a for a, b in zip([-1, *turns], turns, strict=False)]
            assert max(gaps) <= (20 if lane is Lane.PROGRESS else 11)
        assert sum(key.startswith("flood") for key in taken) == 400 - 30

    run(story())


def test_progress_goes_on_under_a_burst_of_new_jobs() -> None:
    async def story() -> None:
        gangs = Gangs(write=0.1)
        await gangs.live(runs=20, new=2000, preempted=0, rate=1.0, seconds=60)
        assert len(gangs.started) < 2000, "the burst is not over"
        assert len(gangs.progress) == 20
        assert min(len(times) for times in gangs.progress.values()) >= 3

    run(story())


def test_an_event_during_a_routine_pass_is_urgent_afterwards() -> None:
    async def story() -> None:
        q = queue()
        q.add("a", Lane.PROGRESS)
        await q.take()
        q.add("a", Lane.PROGRESS)
        q.add("a")
        q.add("a", Lane.PROGRESS)
        q.add("b", Lane.PROGRESS)
        q.done("a")
        assert [await q.take(), await q.take()] == ["a", "b"]

    run(story())


def test_a_delay_keeps_its_lane() -> None:
    async def story() -> None:
        q = queue()
        q.add_after("progress", 5, Lane.PROGRESS)
        q.add_after("deadline", 5)
        await asyncio.sleep(6)
        assert [await q.take(), await q.take()] == ["deadline", "progress"]

    run(story())
