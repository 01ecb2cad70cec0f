"""Read files of every format through one function."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path

from tasks.collect.config import FileFormat
from tasks.collect.records import Record
from tasks.collect.sources import parquet
from tasks.collect.sources.delimited import header_of, read_delimited
from tasks.collect.sources.json_document import LONGEST_ROW, read_json
from tasks.collect.sources.json_rows import raw_text, read_json_lines
from tasks.collect.sources.lines import Line, read_lines, read_whole
from tasks.collect.sources.row_values import Fit, Unfit
from tasks.collect.sources.unpack import PACKED, text_blocks
from tasks.core.files import storable

ENDINGS: dict[str, FileFormat] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".txt": "text",
    ".md": "markdown",
    ".markdown": "markdown",
}
DELIMITERS = {"csv": ",", "tsv": "\t"}
ROWS_LOOKED_AT = 100
"""Number of JSON rows in which a column must appear."""


def format_of(path: Path) -> FileFormat | None:
    """The format of a file by its name, with or without ``.gz`` or ``.zst``; None if unknown."""
    name = Path(path.name.lower())
    return ENDINGS.get(Path(name.stem).suffix if name.suffix in PACKED else name.suffix)


def read_file(
    path: Path, format: FileFormat, *, name: str, max_field_bytes: int, columns: Iterable[str] | None = None
) -> Iterator[Record]:
    """All rows of a file, streamed; an unreadable row is a record with its problem.

    A text or Markdown file is one row with the column ``text``. Memory holds a few rows of the largest size. ``name``:
    the source's name in the records. ``max_field_bytes``: a row with a larger field has a problem. Raises SourceError:
    the file cannot be read as a whole: it is missing, not packed as its name says, has no usable header, or has another
    format.
    """
    fit = Fit.of(max_field_bytes, columns)
    match format:
        case "csv" | "tsv":
            return read_delimited(_lines(path, fit), name, fit, DELIMITERS[format], storable(str(path)))
        case "json":
            return read_json(partial(text_blocks, path), name, fit, storable(str(path)))
        case "jsonl":
            return read_json_lines(_lines(path, fit), name, fit)
        case "parquet":
            return parquet.read_parquet(path, name, fit)
        case "text" | "markdown":
            return _read_text(path, name, fit)


def columns_in(path: Path, format: FileFormat, max_field_bytes: int) -> list[str] | None:
    """The column names from the beginning of a file; None without a readable first row. Raises as ``read_file``."""
    if format == "parquet":
        return parquet.column_names(path)
    fit = Fit(max_field_bytes)
    if format in DELIMITERS:
        return header_of(_lines(path, fit), fit, DELIMITERS[format], storable(str(path))) or None
    records = islice(read_file(path, format, name=path.name, max_field_bytes=max_field_bytes), ROWS_LOOKED_AT)
    return list(dict.fromkeys(column for record in records for column in record.values or ())) or None


def _lines(path: Path, fit: Fit) -> Iterator[Line]:
    return read_lines(text_blocks(path), LONGEST_ROW * fit.max_field_bytes)


def _read_text(path: Path, name: str, fit: Fit) -> Iterator[Record]:
    text = read_whole(text_blocks(path), fit.max_field_bytes)
    if not text.problem and not text.content.strip():
        return
    try:
        if text.problem:
            raise Unfit(text.problem)
        yield Record(name, 1, fit.row({"text": text.content.decode("utf-8", errors="surrogateescape")}))
    except Unfit as reason:
        yield Record(name, 1, None, raw_text(text.content), str(reason))
