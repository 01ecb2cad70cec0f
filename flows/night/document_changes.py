"""What is new since the run before: the documents that came, changed or went."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from tasks.core.home import Home
from tasks.core.tables import INDEX


@dataclass(frozen=True)
class Changes:
    """Counts of documents, compared with an earlier run of the same recipe.

    Attributes:
        since: that run's id.
    """

    since: str
    new: int
    changed: int
    gone: int
    unchanged: int

    @property
    def said(self) -> str:
        """As a sentence."""
        if not (self.new or self.changed or self.gone):
            return f"The sources gave the same {self.unchanged} documents as in run {self.since}."
        return (
            f"Since run {self.since}: documents new {self.new}, changed {self.changed}, gone {self.gone},"
            f" as before {self.unchanged}."
        )


def document_changes(home: Home, recipe: str, run_id: str, collected: Path) -> Changes | None:
    """Compare a run's documents with those of the latest earlier run of the recipe that ended well and has them still.

    Args:
        run_id: the run that collected ``collected``, an artifact's folder.

    Returns:
        None where there was no such run.
    """
    for report in sorted(home.runs.glob("*/report.json"), reverse=True):
        if report.parent.name >= run_id:
            continue
        try:
            record = json.loads(report.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # half written when the machine went down: the run before it will do
            continue
        path = Path(record.get("stages", {}).get("collect", {}).get("path", "")) / INDEX
        if record.get("recipe") == recipe and record.get("status") != "failed" and path.is_file():
            return _compare(report.parent.name, _contents(path), _contents(collected / INDEX))
    return None


def _contents(path: Path) -> dict[str, bytes]:
    table = pq.read_table(path, columns=["document_id", "content"])
    return dict(zip(table["document_id"].to_pylist(), table["content"].to_pylist(), strict=True))


def _compare(since: str, before: dict[str, bytes], after: dict[str, bytes]) -> Changes:
    both = before.keys() & after.keys()
    changed = sum(before[name] != after[name] for name in both)
    return Changes(since, len(after) - len(both), changed, len(before) - len(both), len(both) - changed)
