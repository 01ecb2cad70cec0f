"""The numbers of generation are in MLflow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from flows.night.generation_metrics import log_generation
from tasks.core.home import Home


@pytest.mark.slow
def test_the_numbers_of_generation_are_metrics_of_a_run_that_names_the_night(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    stats: dict[str, Any] = {
        "asked": 3,
        "latency_seconds": {"p50": 0.5},
        "prefix_cache_hit_rate": None,
        "by_endpoint": {"vLLM": 2},
    }
    stats["by_endpoint"] |= {"http://127.0.0.1:8000/v1": 1}
    run = MlflowClient(tracking_uri=home.tracking_uri).get_run(log_generation(home, "night-1", "embedded", stats))
    assert run.data.metrics == {
        "generate/asked": 3,
        "generate/latency_seconds/p50": 0.5,
        "generate/by_endpoint/vLLM": 2,
        "generate/by_endpoint/http.127.0.0.1.8000.v1": 1,
    }
    assert run.data.tags["retune_run"] == "night-1" and run.info.status == "FINISHED"
