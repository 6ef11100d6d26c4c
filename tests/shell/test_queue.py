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
