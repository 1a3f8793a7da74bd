"""MLflow: the server in MLFLOW_TRACKING_URI, the experiment in MLFLOW_EXPERIMENT_NAME."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, Param
from mlflow.tracking import MlflowClient

LONGEST = 500  # maximum length of a value in all of MLflow's stores
# MLflow's defaults, 120 s and 7 retries, would delay a training whose server is down.
PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}


class Backend:
    """A run; an older mirror of the same run is replaced."""

    def __init__(self, project: str, name: str, keys: Mapping[str, Any]) -> None:
        for variable, value in PATIENCE.items():
            os.environ.setdefault(variable, value)
        self._client = MlflowClient()
        experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", project)
        existing = self._client.get_experiment_by_name(experiment)
        identifier = (
            existing.experiment_id if existing else self._client.create_experiment(experiment)
        )
        for old in self._client.search_runs([identifier], f"tags.`tinylab.run` = '{name}'"):
            self._client.delete_run(old.info.run_id)
        run = self._client.create_run(identifier, tags={"tinylab.run": name}, run_name=name)
        self._run = run.info.run_id
        params = [Param(key, str(value)[:LONGEST]) for key, value in keys.items()]
        self._client.log_batch(self._run, params=params)

    def log(self, values: Mapping[str, float], step: int, time: float) -> None:
        """Log the values of one step by tag; ``time`` in seconds since 1970."""
        moment = int(time * 1000)
        metrics = [Metric(tag, value, moment, step) for tag, value in values.items()]
        self._client.log_batch(self._run, metrics=metrics)

    def finish(self, values: Mapping[str, float], step: int, figures: Sequence[Path]) -> None:
        """Log the final values, and figures as files."""
        for tag, value in values.items():
            self._client.log_metric(self._run, tag, value, step=step)
        for figure in figures:
            self._client.log_artifact(self._run, str(figure))
        self._client.set_terminated(self._run)

    def close(self) -> None:
        """End the run early."""
        self._client.set_terminated(self._run, status="KILLED")
