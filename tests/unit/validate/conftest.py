"""The artifacts that the validate stage reads, written small and real."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.core.artifacts import ArtifactRef
from tests.unit.validate.tables import COLLECTED_COLUMNS, GENERATED_COLUMNS, Row, write_no_lost_documents, write_table


@pytest.fixture
def inputs(tmp_path: Path) -> Callable[..., tuple[ArtifactRef, ArtifactRef]]:
    """Write the artifacts that the stage reads; the digest stands for their content."""

    def write(train: list[Row], holdout: list[Row], rows: list[Row]) -> tuple[ArtifactRef, ArtifactRef]:
        write_table(tmp_path / "collect" / "train.parquet", train, COLLECTED_COLUMNS)
        write_table(tmp_path / "collect" / "holdout.parquet", holdout, COLLECTED_COLUMNS)
        write_no_lost_documents(tmp_path / "collect")
        write_table(tmp_path / "generate" / "rows.parquet", rows, GENERATED_COLUMNS)
        write_table(tmp_path / "generate" / "quarantine.parquet", [], ("row_id", "document_id", "prompt", "rule"))
        return (
            ArtifactRef("collect", "c", str(tmp_path / "collect"), "c0", len(train)),
            ArtifactRef("generate", "g", str(tmp_path / "generate"), "g0", len(rows)),
        )

    return write
