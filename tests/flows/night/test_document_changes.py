"""What is new since the run before."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from flows.night.document_changes import document_changes
from flows.report.record import RunRecord
from tasks.core.home import Home
from tasks.core.tables import INDEX


def collected(folder: Path, documents: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True)
    columns = {"document_id": list(documents), "content": list(documents.values())}
    pq.write_table(pa.table(columns, schema=pa.schema([("document_id", pa.string()), ("content", pa.binary())])),
                   folder / INDEX)  # fmt: skip
    return folder


def record_run(home: Home, run_id: str, recipe: str, folder: Path, status: str = "published") -> None:
    (home.runs / run_id).mkdir(parents=True)
    stages = {"collect": {"path": str(folder)}}
    RunRecord(run_id, recipe, status, 0.0, str(home.runs / run_id), stages=stages).write()


def test_new_changed_and_gone_documents_are_counted_against_the_recipes_last_run(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    before = collected(tmp_path / "a", {"1": b"one", "2": b"two", "3": b"three"})
    record_run(home, "20260101", "mine", before)
    record_run(home, "20260102", "another", collected(tmp_path / "b", {"9": b"nine"}))
    record_run(home, "20260102b", "mine", collected(tmp_path / "failed", {}), status="failed")
    tonight = collected(tmp_path / "c", {"1": b"one", "2": b"TWO", "4": b"four", "5": b"five"})
    record_run(home, "20260103", "mine", tonight)
    changes = document_changes(home, "mine", "20260103", tonight)
    assert changes == "Since run 20260101: documents new 2, changed 1, gone 1, as before 1."


def test_a_first_run_is_compared_with_nothing_and_the_same_sources_are_said_to_be_so(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    folder = collected(tmp_path / "a", {"1": b"one"})
    record_run(home, "20260101", "mine", folder)
    assert document_changes(home, "mine", "20260101", folder) == ""
    changes = document_changes(home, "mine", "20260102", folder)
    assert changes == "The sources gave the same 1 documents as in run 20260101."


def test_a_half_written_report_of_an_earlier_run_is_passed_over(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    folder = collected(tmp_path / "a", {"1": b"one"})
    record_run(home, "20260101", "mine", folder)
    for run_id, content in (("20260102", b'{"recipe": "mi'), ("20260103", b""), ("20260104", b'{"recipe": "\xc3')):
        (home.runs / run_id).mkdir()
        (home.runs / run_id / "report.json").write_bytes(content)
    changes = document_changes(home, "mine", "20260105", folder)
    assert "run 20260101" in changes
