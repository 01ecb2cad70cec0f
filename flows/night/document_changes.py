"""What is new since the last run: the documents that were added, changed or removed."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from flows.report.record import latest_artifacts
from tasks.core.home import Home
from tasks.core.tables import INDEX


def document_changes(home: Home, recipe: str, run_id: str, collected: Path) -> str:
    """Compare a run's documents with those of the latest earlier run of the recipe that did not fail.

    Returns a sentence; empty if there was no such run, or its documents are gone.
    """
    for record, folder in latest_artifacts(home, recipe, "collect", INDEX):
        if record.run_id < run_id and record.status != "failed":
            return _compare(record.run_id, _contents(folder / INDEX), _contents(collected / INDEX))
    return ""


def _contents(path: Path) -> dict[str, bytes]:
    table = pq.read_table(path, columns=["document_id", "content"])
    return dict(zip(table["document_id"].to_pylist(), table["content"].to_pylist(), strict=True))


def _compare(since: str, before: dict[str, bytes], after: dict[str, bytes]) -> str:
    both = before.keys() & after.keys()
    changed = sum(before[name] != after[name] for name in both)
    new, gone, same = len(after) - len(both), len(before) - len(both), len(both) - changed
    if not (new or changed or gone):
        return f"The sources gave the same {same} documents as in run {since}."
    return f"Since run {since}: documents new {new}, changed {changed}, gone {gone}, as before {same}."
