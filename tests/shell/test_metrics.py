from finetune_operator.shell.metrics import DEPLOYMENT_PHASES, PHASES, PREFIX, Metrics


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
    metrics.sampled(
        queue=lambda: {"ready": len(jobs)},
        resync_age=lambda: 12.0,
        objects=lambda kind: jobs if kind == "FineTuneJob" else [{"status": {"phase": "Paused"}}],
        progress_interval=lambda: 15.0,
    )
    assert value(metrics, "jobs", phase="Running") == 0
    jobs += [{"status": {"phase": "Running"}}, {"status": {}}, {}]
    assert value(metrics, "jobs", phase="Running") == 1
    assert value(metrics, "jobs", phase="Pending") == 2
    assert value(metrics, "queue_depth", state="ready") == 3
    assert value(metrics, "resync_age_seconds") == 12.0
    assert value(metrics, "progress_write_interval_seconds") == 15.0
    assert value(metrics, "deployments", phase="Paused") == 1
    assert value(metrics, "deployments", phase="Healthy") == 0


def test_every_phase_of_the_contract_is_counted() -> None:
    from finetune_api.deployment_status import DeploymentPhase
    from finetune_api.status import Phase

    assert set(PHASES) == {phase.value for phase in Phase}
    assert set(DEPLOYMENT_PHASES) == {phase.value for phase in DeploymentPhase}


def test_counters_grow_by_what_a_status_adds() -> None:
    metrics = Metrics()
    old = {"totals": {"preemptions": 1, "restarts": 2}, "attempts": [{"index": 1, "lostSteps": 4}]}
    new = {
        "totals": {"preemptions": 3, "restarts": 2},
        "attempts": [{"index": 1, "lostSteps": 4}, {"index": 2, "lostSteps": 6}, {"index": 3}],
    }
    metrics.status_written("FineTuneJob", {}, old)
    metrics.status_written("FineTuneJob", old, new)
    metrics.status_written("FineTuneJob", new, new)
    assert value(metrics, "preemptions_total") == 3
    assert value(metrics, "restarts_total") == 2
    assert value(metrics, "lost_steps_total") == 10


def test_rollouts_are_counted_when_they_end() -> None:
    metrics = Metrics()

    def ended(revision: str, outcome: str, reason: str) -> dict[str, str]:
        times = {"startedAt": "2026-01-02T03:04:05Z", "finishedAt": "2026-01-02T03:14:05Z"}
        return {"revision": revision, "outcome": outcome, "reason": reason, **times}

    first = ended("aaa", "Promoted", "Promoted")
    second = ended("bbb", "RolledBack", "AnalysisFailed")
    kind = "ModelDeployment"
    metrics.status_written(kind, {"phase": "Progressing"}, {"history": [first]})
    metrics.status_written(kind, {"history": [first]}, {"history": [second, first]})
    metrics.status_written(kind, {"history": [second, first]}, {"history": [second, first]})
    metrics.status_written(kind, {}, {"history": [second, first]})
    assert value(metrics, "rollouts_total", result="Promoted") == 1
    assert value(metrics, "rollouts_total", result="RolledBack") == 1
    assert value(metrics, "rollbacks_total", reason="AnalysisFailed") == 1
