"""MLflow: the server that MLFLOW_TRACKING_URI names, the experiment of MLFLOW_EXPERIMENT_NAME."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, Param
from mlflow.tracking import MlflowClient

LONGEST = 500  # letters of a value: what all stores of MLflow take
# MLflow's own values, 120 s and 7 tries, would hold up a training whose server is gone.
PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}


class Backend:
    """One run; an older mirror of the same run is replaced."""

    def __init__(self, project: str, name: str, keys: Mapping[str, Any]) -> None:
        for variable, value in PATIENCE.items():
            os.environ.setdefault(variable, value)
        self._client = MlflowClient()
        experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", project)
        found = self._client.get_experiment_by_name(experiment)
        place = found.experiment_id if found else self._client.create_experiment(experiment)
        for old in self._client.search_runs([place], f"tags.`tinylab.run` = '{name}'"):
            self._client.delete_run(old.info.run_id)
        run = self._client.create_run(place, tags={"tinylab.run": name}, run_name=name)
        self._run = run.info.run_id
        params = [Param(key, str(value)[:LONGEST]) for key, value in keys.items()]
        self._client.log_batch(self._run, params=params)

    def log(self, values: Mapping[str, float], step: int, time: float) -> None:
        """Values of one step, by their tags; ``time`` in seconds since 1970."""
        moment = int(time * 1000)
        metrics = [Metric(tag, value, moment, step) for tag, value in values.items()]
        self._client.log_batch(self._run, metrics=metrics)

    def finish(self, values: Mapping[str, float], step: int, figures: Sequence[Path]) -> None:
        """The final values, and figures as files."""
        for tag, value in values.items():
            self._client.log_metric(self._run, tag, value, step=step)
        for figure in figures:
            self._client.log_artifact(self._run, str(figure))
        self._client.set_terminated(self._run)

    def close(self) -> None:
        """The run has ended before its end."""
        self._client.set_terminated(self._run, status="KILLED")
