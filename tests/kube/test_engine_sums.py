from finetune_api.rollout import MetricName
from finetune_operator.kube.engine_metrics import EngineSample, parse
from finetune_operator.kube.engine_sums import Change, Owed, Sums, change, restarted, take_out
from tests.kube.engines import BOUNDS, Engine


def sample(engine: Engine) -> EngineSample:
    return parse(engine.page())


def between(engine: Engine, *happens: object) -> tuple[EngineSample, EngineSample]:
    before = sample(engine)
    for thing in happens:
        assert callable(thing)
        thing()
    return before, sample(engine)


def test_the_difference_of_two_looks() -> None:
    engine = Engine()
    engine.serve(0.2, 0.3, 4.0)
    found = change(*between(engine, lambda: engine.serve(0.05, 0.7), lambda: engine.serve(9.0, reason="abort")))
    assert (found.served, found.aborted, found.errors, found.requests, found.tokens) == (2, 1, 0, 3, 30)
    assert list(found.histograms[MetricName.E2E_LATENCY].values()) == [1, 0, 1, 0, 1]
    assert round(found.sums[MetricName.E2E_LATENCY], 6) == 9.75


def test_a_failure_is_counted_once_whoever_saw_it() -> None:
    engine = Engine()
    both = change(*between(engine, lambda: engine.refuse(2)))
    assert (both.errors, both.requests) == (2, 2)
    unheard = change(*between(engine, lambda: engine.refuse(3, in_engine=False)))
    assert (unheard.errors, unheard.requests) == (3, 3)


def test_a_restart_begins_at_zero() -> None:
    engine = Engine()
    engine.serve(*[0.2] * 50)
    before, after = between(engine, engine.restart, lambda: engine.serve(0.3, 0.4))
    assert restarted(before, after)
    assert change(before, after).requests == 2
    assert list(change(before, after).histograms[MetricName.E2E_LATENCY].values()) == [0, 2, 0, 0, 0]


def test_counters_that_fall_are_a_restart_although_nobody_says_so() -> None:
    engine = Engine()
    engine.serve(0.2, 0.2)
    before, after = between(engine, engine.restart, lambda: engine.serve(0.3))
    nameless = EngineSample(**{**vars(after), "started": before.started})
    assert change(before, nameless).requests == 1


def test_our_own_completions_are_taken_out_with_the_time_they_took() -> None:
    engine = Engine()
    found = change(*between(engine, lambda: engine.synthetic(0.7), lambda: engine.serve(0.2, 4.0)))
    owed = Owed(answered=[0.72])
    take_out(owed, found)
    assert (found.requests, found.tokens, owed.answered) == (2, 20, [])
    assert list(found.histograms[MetricName.E2E_LATENCY].values()) == [0, 1, 0, 1, 0]
    assert sum(found.histograms[MetricName.TTFT].values()) == 2
    assert sum(found.histograms[MetricName.QUEUE_TIME].values()) == 2


def test_a_completion_just_over_a_bound_leaves_from_the_bucket_below() -> None:
    engine = Engine()
    found = change(*between(engine, lambda: engine.synthetic(0.49)))
    take_out(Owed(answered=[0.51]), found)
    assert list(found.histograms[MetricName.E2E_LATENCY].values()) == [0, 0, 0, 0, 0]


def test_what_is_not_counted_yet_stays_owed() -> None:
    engine = Engine()
    owed = Owed(answered=[0.2], refused=1, given_up=1)
    nothing = change(*between(engine))
    take_out(owed, nothing)
    assert (nothing.requests, owed.answered, owed.refused, owed.given_up) == (0, [0.2], 1, 1)
    late = change(
        *between(
            engine,
            lambda: engine.synthetic(0.2),
            lambda: engine.refuse(1),
            lambda: engine.serve(3.0, reason="abort"),
            lambda: engine.serve(1.0),
        )
    )
    take_out(owed, late)
    assert (late.requests, late.errors, late.aborted) == (1, 0, 0)
    assert (owed.answered, owed.refused, owed.given_up) == ([], 0, 0)


def test_our_own_token_is_no_sign_of_life() -> None:
    engine = Engine()
    found = change(*between(engine, lambda: engine.synthetic(0.2)))
    assert found.moved
    take_out(Owed(answered=[0.2]), found)
    assert not found.moved
    assert Change(tokens=3).moved


def test_sums_over_looks_are_histograms_that_the_analysis_accepts() -> None:
    one, other = Engine(), Engine()
    sums = Sums()
    for _ in range(3):
        sums.add(change(*between(one, lambda: one.serve(0.2, 0.7))))
        sums.add(change(*between(other, lambda: other.serve(9.0), other.refuse)))
    totals = sums.totals()
    assert (totals.requests, totals.errors) == (12, 3)
    e2e = totals.histograms[MetricName.E2E_LATENCY]
    assert e2e.bounds == BOUNDS
    assert e2e.counts == (0, 3, 6, 6, 9)
    assert round(e2e.sum, 6) == 29.7


def test_nothing_happened() -> None:
    totals = Sums().totals()
    assert (totals.requests, totals.errors, dict(totals.histograms)) == (0, 0, {})
