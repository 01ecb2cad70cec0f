"""Read files of every format through one function."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain, islice
from pathlib import Path

from tasks.collect.config import FileFormat
from tasks.collect.records import Record
from tasks.collect.sources import parquet
from tasks.collect.sources.contents import held_format
from tasks.collect.sources.delimited import header_of, read_delimited
from tasks.collect.sources.json_document import LONGEST_ROW, read_json
from tasks.collect.sources.json_rows import NO_OBJECT, raw_text, read_json_lines
from tasks.collect.sources.lines import Line, read_lines, read_whole
from tasks.collect.sources.row_values import Fit, Unfit
from tasks.collect.sources.unpack import PACKED, text_blocks
from tasks.core.errors import SourceError
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
ROWS_OF_ANOTHER_KIND = 5
"""First rows that show that a file does not hold JSON objects, if none of them is one."""
ROWS_LOOKED_AT = 100
"""Number of JSON rows in which a column must appear."""


def format_of(path: Path) -> FileFormat | None:
    """The format of a file by its name, with or without the ending of a packing; None if unknown."""
    name = Path(path.name.lower())
    return ENDINGS.get(Path(name.stem).suffix if name.suffix in PACKED else name.suffix)


def read_file(
    path: Path, format: FileFormat, *, name: str, max_field_bytes: int, columns: Iterable[str] | None = None
) -> Iterator[Record]:
    """All rows of a file, streamed; an unreadable row is a record with its problem.

    The file is read as what it is, whatever its name (:func:`held_format`). A text or Markdown file is one row with the
    column ``text``. Memory holds a few rows of the largest size. ``name``: the source's name in the records.
    ``max_field_bytes``: a row with a larger field has a problem. Raises SourceError: the file cannot be read as a
    whole: it is missing, not packed as its name says, has no usable header, or is something else.
    """
    fit, where = Fit.of(max_field_bytes, columns), storable(str(path))
    match held_format(path, format):
        case "csv" | "tsv" as delimited:
            return read_delimited(_lines(path, fit), name, fit, DELIMITERS[delimited], where)
        case "json":
            return _with_objects(read_json(partial(text_blocks, path), name, fit, where), where)
        case "jsonl":
            return _with_objects(read_json_lines(_lines(path, fit), name, fit), where)
        case "parquet":
            return parquet.read_parquet(path, name, fit)
        case "text" | "markdown":
            return _read_text(path, name, fit)


def columns_in(path: Path, format: FileFormat, max_field_bytes: int) -> list[str] | None:
    """The column names from the beginning of a file; None without a readable first row. Raises as ``read_file``."""
    format = held_format(path, format)
    if format == "parquet":
        return parquet.column_names(path)
    fit = Fit(max_field_bytes)
    if format in DELIMITERS:
        return header_of(_lines(path, fit), fit, DELIMITERS[format], storable(str(path))) or None
    records = islice(read_file(path, format, name=path.name, max_field_bytes=max_field_bytes), ROWS_LOOKED_AT)
    return list(dict.fromkeys(column for record in records for column in record.values or ())) or None


def _lines(path: Path, fit: Fit) -> Iterator[Line]:
    return read_lines(text_blocks(path), LONGEST_ROW * fit.max_field_bytes)


def _with_objects(records: Iterator[Record], where: str) -> Iterator[Record]:
    """The records; a SourceError if the first ones show that the file does not hold JSON objects."""
    first = list(islice(records, ROWS_OF_ANOTHER_KIND))
    if len(first) > 1 and all(record.problem.startswith(NO_OBJECT) for record in first):
        what = f"The file does not hold JSON objects: {first[0].problem} in line {first[0].line}"
        remedy = 'correct its ending or state its format; rows are objects, such as {"text": "..."}'
        raise SourceError(what, where=where, remedy=remedy)
    yield from chain(first, records)


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
