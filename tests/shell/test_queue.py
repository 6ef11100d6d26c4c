import asyncio

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
            q.add(f"progress-{n}", urgent=False)
        q.add("event")
        assert [await q.take() for _ in range(4)] == ["event", "progress-0", "progress-1", "progress-2"]

    run(story())


def test_routine_keys_do_not_starve() -> None:
    async def story() -> None:
        q = queue()
        for n in range(20):
            q.add(f"event-{n}")
        q.add("progress", urgent=False)
        taken = [await q.take() for _ in range(6)]
        assert taken.index("progress") == 4, "every fifth turn is theirs"

    run(story())


def test_an_event_makes_a_waiting_routine_key_urgent_and_it_is_worked_on_once() -> None:
    async def story() -> None:
        q = queue()
        for key in ("a", "b", "c"):
            q.add(key, urgent=False)
        q.add("c")
        q.add("b", urgent=False)
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
        q.add("other", urgent=False)
        q.add("a")
        q.add("a", urgent=False)
        assert await q.take() == "a"

    run(story())


def test_routine_keys_never_hold_all_workers() -> None:
    async def story() -> None:
        q: WorkQueue[str] = WorkQueue(clock=clock, jitter=lambda: 0.0, routine_max=2)
        for n in range(5):
            q.add(f"progress-{n}", urgent=False)
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


def test_a_key_that_is_repeated_is_as_urgent_as_its_pass() -> None:
    async def story() -> None:
        q = queue()
        q.add("progress", urgent=False)
        await q.take()
        q.repeat("progress")
        q.add("other")
        q.done("progress")
        assert [await q.take(), await q.take()] == ["other", "progress"]
        q.repeat("other")
        q.add("progress", urgent=False)
        q.done("other")
        q.done("progress")
        assert await q.take() == "other"

    run(story())


def test_an_event_during_a_routine_pass_is_urgent_afterwards() -> None:
    async def story() -> None:
        q = queue()
        q.add("a", urgent=False)
        await q.take()
        q.add("a", urgent=False)
        q.add("a")
        q.add("a", urgent=False)
        q.add("b", urgent=False)
        q.done("a")
        assert [await q.take(), await q.take()] == ["a", "b"]

    run(story())


def test_a_delay_keeps_its_lane() -> None:
    async def story() -> None:
        q = queue()
        q.add_after("progress", 5, urgent=False)
        q.add_after("deadline", 5)
        await asyncio.sleep(6)
        assert [await q.take(), await q.take()] == ["deadline", "progress"]

    run(story())
