from finetune_operator.shell.metrics import PHASES, PREFIX, Metrics


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(PREFIX + name, labels)


def test_two_instances_are_apart() -> None:
    one, two = Metrics(), Metrics()
    one.api_call("create", "Job", "ok")
    assert value(one, "api_requests_total", verb="create", kind="Job", outcome="ok") == 1
    assert value(two, "api_requests_total", verb="create", kind="Job", outcome="ok") is None


def test_gauges_are_read_when_somebody_scrapes() -> None:
    metrics = Metrics()
    jobs: list[dict[str, object]] = []
    metrics.sampled(queue=lambda: {"ready": len(jobs)}, resync_age=lambda: 12.0, jobs=lambda: jobs)
    assert value(metrics, "jobs", phase="Running") == 0
    jobs += [{"status": {"phase": "Running"}}, {"status": {}}, {}]
    assert value(metrics, "jobs", phase="Running") == 1
    assert value(metrics, "jobs", phase="Pending") == 2
    assert value(metrics, "queue_depth", state="ready") == 3
    assert value(metrics, "resync_age_seconds") == 12.0


def test_every_phase_of_the_contract_is_counted() -> None:
    from finetune_api.status import Phase

    assert set(PHASES) == {phase.value for phase in Phase}


def test_counters_grow_by_what_a_status_adds() -> None:
    metrics = Metrics()
    old = {"totals": {"preemptions": 1, "restarts": 2}, "attempts": [{"index": 1, "lostSteps": 4}]}
    new = {
        "totals": {"preemptions": 3, "restarts": 2},
        "attempts": [{"index": 1, "lostSteps": 4}, {"index": 2, "lostSteps": 6}, {"index": 3}],
    }
    metrics.status_written({}, old)
    metrics.status_written(old, new)
    metrics.status_written(new, new)
    assert value(metrics, "preemptions_total") == 3
    assert value(metrics, "restarts_total") == 2
    assert value(metrics, "lost_steps_total") == 10
