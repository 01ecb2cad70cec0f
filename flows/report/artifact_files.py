"""What a stage of the validation left for people: Data Docs, the waterfall and its picture, an example of a leak.

Tables are opened only where there are some: a report is to be printed at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks.core import tables
from tasks.core.artifacts import REPORT_FOLDER
from tasks.core.home import Home
from tasks.validate.waterfall.yields import WATERFALL, Waterfall, read_waterfall

SHOWN_CHARACTERS = 300


def pages_in(folder: Path) -> dict[str, str]:
    """The Data Docs that a stage wrote, by contract: the path of their first page."""
    pages = sorted((folder / REPORT_FOLDER / "data_docs").glob("*/index.html"))
    return {page.parent.name: str(page) for page in pages}


def picture_in(folder: Path) -> str | None:
    """The waterfall's picture, where a stage drew one."""
    picture = folder / REPORT_FOLDER / "waterfall.png"
    return str(picture) if picture.is_file() else None


def curve_in(folder: Path) -> str | None:
    """The learning curve's picture, where the evaluation drew one."""
    picture = folder / REPORT_FOLDER / "curve.png"
    return str(picture) if picture.is_file() else None


def evaluation_in(folder: Path) -> str | None:
    """The evaluation's page, with the labels that were mixed up and some mistakes, where it is still there."""
    page = folder / REPORT_FOLDER / "evaluation.md"
    return str(page) if page.is_file() else None


def waterfall_in(folder: Path) -> Waterfall | None:
    """The waterfall, where a stage wrote one and it is still there."""
    return read_waterfall(folder / WATERFALL) if (folder / WATERFALL).is_file() else None


def yield_by_prompt(folder: Path) -> dict[str, Any] | None:
    """The waterfall with a prompt's sources added up, JSON-like."""
    found = waterfall_in(folder)
    return found.by_prompt().as_json() if found and found.groups else None


def example_leak(folder: Path) -> dict[str, Any] | None:
    """The first row that repeats an evaluation text: which text, how much of it, and the longest run they share."""
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
    """By stage, the folder in a run's logs where the stage left what it had found when it stopped the run."""
    folders = sorted(folder for folder in (home.logs / run_id).glob("*") if (folder / REPORT_FOLDER).is_dir())
    return {folder.name: str(folder) for folder in folders}
