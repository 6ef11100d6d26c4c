"""A run on an MLflow server, found again by a tag: attempts of one run write to one run there."""

from __future__ import annotations

from collections.abc import Sequence

from finetune_api.runconfig import RunConfig
from finetune_api.tracking import MLflow
from finetune_trainer.tracking.points import Point
from finetune_trainer.tracking.sink import name_of, parameters, stopped

RUN_TAG = "finetune.run"
MOST_METRICS = 1000
MOST_PARAMETERS = 100
"""In one request, by MLflow's own limits."""


class MLflowSink:
    def __init__(self, config: RunConfig, wanted: MLflow) -> None:
        from mlflow import MlflowClient

        self._config, self._wanted = config, wanted
        self._client = MlflowClient(tracking_uri=wanted.uri)
        self._run = ""

    def open(self) -> str:
        experiment, key = self._experiment(), f"{self._config.namespace}/{name_of(self._config)}"
        found = self._client.search_runs([experiment], f"tags.`{RUN_TAG}` = '{key}'", max_results=1)
        if found:
            self._run = found[0].info.run_id
            self._client.update_run(self._run, status="RUNNING")
        else:
            self._run = self._begin(experiment, key)
        self._client.set_tag(self._run, "finetune.attempt", str(self._config.attempt))
        return f"{self._wanted.uri.rstrip('/')}/#/experiments/{experiment}/runs/{self._run}"

    def log(self, points: Sequence[Point]) -> None:
        from mlflow.entities import Metric

        metrics = [
            Metric(name, value, point.milliseconds, point.step)
            for point in points
            for name, value in point.values.items()
        ]
        for start in range(0, len(metrics), MOST_METRICS):
            self._client.log_batch(self._run, metrics=metrics[start : start + MOST_METRICS], synchronous=True)

    def end(self, code: int) -> None:
        status = "FINISHED" if code == 0 else "KILLED" if stopped(code) else "FAILED"
        self._client.set_terminated(self._run, status=status)

    def _experiment(self) -> str:
        name = self._wanted.experiment or self._config.namespace
        found = self._client.get_experiment_by_name(name)
        return str(found.experiment_id if found else self._client.create_experiment(name))

    def _begin(self, experiment: str, key: str) -> str:
        from mlflow.entities import Param

        tags = {RUN_TAG: key, "finetune.namespace": self._config.namespace, "finetune.name": self._config.name}
        run = str(self._client.create_run(experiment, tags=tags, run_name=self._config.name).info.run_id)
        entries = [Param(name, value) for name, value in parameters(self._config).items()]
        for start in range(0, len(entries), MOST_PARAMETERS):
            self._client.log_batch(run, params=entries[start : start + MOST_PARAMETERS], synchronous=True)
        return run
