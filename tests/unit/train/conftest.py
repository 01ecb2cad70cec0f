from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from tasks.core.artifacts import ArtifactRef
from tests.tiny_model import write_tiny_model

QUEUES = ("cards", "billing", "accounts")


def write_training_set(folder: Path, rows: int, long_rows: int = 0, words: int = 0) -> ArtifactRef:
    """A training set of short conversations, the last ``long_rows`` of them too long for 128 tokens.

    ``words`` are added to each.
    """
    folder.mkdir(parents=True, exist_ok=True)
    texts = [
        f"where is my {QUEUES[i % 3]} {'please ' * (i % 5)}number {i}{' my' * words}" for i in range(rows - long_rows)
    ]
    texts += ["my account is locked " * 60] * long_rows
    records = [
        {
            "example_id": f"e{i}",
            "messages": [{"role": "user", "content": text}, {"role": "assistant", "content": QUEUES[i % 3]}],
            "document_id": f"d{i}",
            "prompt": "write",
            "tools": None,
            "origin": "generated",
            "source": "messages.csv",
        }
        for i, text in enumerate(texts)
    ]
    pd.DataFrame(records).to_parquet(folder / "training_set.parquet", index=False)
    return ArtifactRef("validate", f"key-{rows}-{long_rows}", str(folder), f"digest-{rows}-{long_rows}", rows)


@pytest.fixture(autouse=True, scope="module")
def few_objects_to_collect() -> Iterator[None]:
    """Accelerate collects garbage at each start and end of a training: let it not look at all imported libraries."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny-model"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One MLflow store for the trainings of a module: making its tables takes longer than these trainings."""
    return tmp_path_factory.mktemp("mlflow") / "mlflow.db"


@pytest.fixture(scope="session")
def training_set(tmp_path_factory: pytest.TempPathFactory) -> ArtifactRef:
    """32 rows, two of them too long."""
    return write_training_set(tmp_path_factory.mktemp("set"), rows=32, long_rows=2)
