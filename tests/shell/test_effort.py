from finetune_operator.shell.effort import Effort


def after(effort: Effort, seconds: float, calls: int) -> int:
    workers = 0
    for _ in range(calls):
        workers = effort.took(seconds)
    return workers


def test_a_fast_server_gets_everything() -> None:
    assert after(Effort(16), 0.02, 500) == 16


def test_one_that_becomes_slow_is_eased_down_to_half() -> None:
    effort = Effort(16)
    after(effort, 0.02, 100)
    assert after(effort, 0.5, 20) == 11
    assert after(effort, 0.5, 100) == 8


def test_and_gets_its_workers_back() -> None:
    effort = Effort(16)
    after(effort, 0.02, 100)
    after(effort, 0.5, 100)
    assert after(effort, 0.03, 40) == 12
    assert after(effort, 0.03, 100) == 16


def test_one_that_is_far_away_is_not_slow() -> None:
    assert after(Effort(16), 0.3, 2000) == 16


def test_a_slow_call_now_and_then_is_no_reason() -> None:
    effort = Effort(16)
    for _ in range(200):
        after(effort, 0.02, 5)
        workers = after(effort, 1.0, 1)
    assert workers == 16


def test_what_is_slow_all_the_time_is_its_pace_in_the_end() -> None:
    effort = Effort(16)
    after(effort, 0.02, 10)
    assert after(effort, 0.4, 400) == 8
    assert after(effort, 0.4, 2000) == 16


def test_there_is_always_a_worker() -> None:
    effort = Effort(1)
    after(effort, 0.01, 10)
    assert after(effort, 5.0, 100) == 1
