"""The files for people in a stage's artifact: Data Docs, pictures, the evaluation's page, an example of a leak."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from tasks.core import tables
from tasks.core.artifacts import MANIFEST, REPORT_FOLDER
from tasks.core.files import read_json
from tasks.core.home import Home
from tasks.validate.waterfall.yields import WATERFALL, Waterfall, read_waterfall

SHOWN_CHARACTERS = 300
WATERFALL_PICTURE = "waterfall.png"
COLLECTED = "collected"


def pages_in(folder: Path) -> dict[str, str]:
    """The first page of the Data Docs that a stage wrote, by contract."""
    pages = sorted((folder / REPORT_FOLDER / "data_docs").glob("*/index.html"))
    return {page.parent.name: str(page) for page in pages}


def picture_in(folder: Path) -> str | None:
    """The waterfall's picture."""
    return _existing(folder / REPORT_FOLDER / WATERFALL_PICTURE)


def curve_in(folder: Path) -> str | None:
    """The learning curve's picture."""
    return _existing(folder / REPORT_FOLDER / "curve.png")


def evaluation_in(folder: Path) -> str | None:
    """The evaluation's page, with confused labels and some mistakes."""
    return _existing(folder / REPORT_FOLDER / "evaluation.md")


def _existing(path: Path) -> str | None:
    return str(path) if path.is_file() else None


def waterfall_in(folder: Path) -> Waterfall | None:
    """The waterfall, if the stage wrote one and it still exists."""
    return read_waterfall(folder / WATERFALL) if (folder / WATERFALL).is_file() else None


def yield_by_prompt(folder: Path) -> dict[str, Any] | None:
    """The waterfall as JSON-like data, with the sources of each prompt added up."""
    found = waterfall_in(folder)
    return found.by_prompt().as_json() if found and found.groups else None


def set_aside_by_training(folder: Path) -> list[tuple[str, str, str]]:
    """Prompt, source and rule of each row that the train stage set aside, as the waterfall has them.

    None where the stage trained on other rows, its files are gone, or it did not record them (before version 4).
    """
    manifest = folder / MANIFEST
    rows = read_json(manifest)["determinants"]["config"].get("train", {}).get("rows") if manifest.is_file() else None
    if rows != Path(tables.TRAINING_SET).stem:
        return []
    return [
        (
            tables.COLLECTED_ROWS if row["origin"] == COLLECTED else row["prompt"] or tables.UNKNOWN,
            row["source"] or tables.UNKNOWN,
            row["rule"],
        )
        for row in _quarantined(folder, ("prompt", "origin", "source", "rule"))
    ]


def rules_in(folder: Path) -> dict[str, int]:
    """How many rows a stage set aside by each rule, most first, as its quarantine has them."""
    return dict(Counter(row["rule"] for row in _quarantined(folder, ("rule",))).most_common())


def _quarantined(folder: Path, columns: tuple[str, ...]) -> list[dict[str, Any]]:
    """The rows of a quarantine with these columns; none where it lacks one."""
    path = folder / tables.QUARANTINE
    if not path.is_file():
        return []
    import pyarrow.parquet as pq

    if not set(columns) <= set(pq.read_schema(path).names):
        return []
    rows: list[dict[str, Any]] = pq.read_table(path, columns=list(columns)).to_pylist()
    return rows


def example_leak(folder: Path) -> dict[str, Any] | None:
    """The first row that repeats an evaluation text: which text, what share of it, and the longest shared run."""
    if not (folder / tables.CONTAMINATED).is_file():
        return None
    import pyarrow.parquet as pq

    for batch in pq.ParquetFile(folder / tables.CONTAMINATED).iter_batches(1):
        if row := next(iter(batch.to_pylist()), None):
            runs = [str(span["text"]) for span in row["spans"] or []]
            shared = max(runs, key=len, default=str(row["text"]))
            named = {name: row[name] for name in ("row_id", "set", "evaluation_id", "coverage")}
            return {**named, "shared": shared[:SHOWN_CHARACTERS]}
    return None


def evidence_of(home: Home, run_id: str) -> dict[str, str]:
    """The folders in a run's logs with what a stage had found when it stopped the run, by stage."""
    found = (home.logs / run_id).glob("*")
    folders = sorted(
        folder for folder in found if (folder / REPORT_FOLDER).is_dir() or (folder / tables.QUARANTINE).is_file()
    )
    return {folder.name: str(folder) for folder in folders}
