"""Log the numbers of generation to MLflow, next to the training run of the same night."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator, Mapping
from numbers import Real
from typing import Any

from tasks.core.home import Home
from tasks.train.train import EXPERIMENT

UNFIT = re.compile(r"[^A-Za-z0-9_.\- ]+")
"""What the name of a metric must not contain."""


def log_generation(home: Home, run_id: str, recipe: str, stats: Mapping[str, Any]) -> str:
    """Write the numbers of a generate stage as one MLflow run, tagged with Retune's run id; returns its id."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric

    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)  # it logs each table that it makes
    (home.root / "mlflow").mkdir(parents=True, exist_ok=True)
    client = MlflowClient(tracking_uri=home.tracking_uri)
    found = client.get_experiment_by_name(EXPERIMENT)
    experiment = found.experiment_id if found else client.create_experiment(EXPERIMENT)
    tags = {"stage": "generate", "retune_run": run_id, "recipe": recipe}
    now = int(time.time() * 1000)
    metrics = [Metric(name, value, now, 0) for name, value in _numbers(stats)]
    run = client.create_run(experiment, run_name=f"{run_id} generate", tags=tags).info.run_id
    client.log_batch(run, metrics=metrics)
    client.set_terminated(run)
    return str(run)


def _numbers(stats: Mapping[str, Any], prefix: str = "generate") -> Iterator[tuple[str, float]]:
    for name, value in stats.items():
        name = UNFIT.sub(".", name)  # an endpoint's name is a URL, which MLflow takes for a path
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}/{name}")
        elif isinstance(value, Real) and not isinstance(value, bool):
            yield f"{prefix}/{name}", float(value)
