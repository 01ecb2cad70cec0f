"""Stream records out of files: each row as values, or with the reason why it cannot be read and its raw text."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.collect.config import CollectConfig, FileSource, HubSource
from tasks.core.errors import SourceError

CSV_FIELD_LIMIT = 10 * 2**20
PARQUET_BATCH_ROWS = 10_000


@dataclass(frozen=True)
class Record:
    """One row of a source.

    Attributes:
        source: the file's name, or the data set's id.
        line: where the row begins; 1 is the first line of a text file, the first row of other sources.
        values: by column, or None where the row cannot be read.
        raw: the row as text where it cannot be read.
        problem: why not.
    """

    source: str
    line: int
    values: dict[str, Any] | None
    raw: str = ""
    problem: str = ""


def source_files(source: FileSource) -> list[Path]:
    """The files of a source, sorted.

    Raises:
        SourceError: there are none, or the format of one is unknown.
    """
    pattern = Path(source.path)
    matches = Path(pattern.anchor).glob(str(pattern.relative_to(pattern.anchor)))
    files = [pattern] if pattern.is_file() else sorted(file for file in matches if file.is_file())
    if not files:
        raise SourceError(
            "The source file does not exist", where=source.path, remedy="correct collect.sources in the recipe"
        )
    for file in files:
        if source.format_of(file) is None:
            raise SourceError(
                f"Cannot tell the format of a {file.suffix or 'nameless'} file",
                where=str(file),
                remedy="state it: {path: ..., format: csv | jsonl | parquet}",
            )
    return files


def read_records(config: CollectConfig) -> Iterator[Record]:
    """All rows of all sources, in order.

    Raises:
        SourceError: a source is missing or lacks a mapped column.
    """
    for source in config.sources:
        if isinstance(source, HubSource):
            yield from _read_hub(source, needed_columns(config))
            continue
        for file in source_files(source):
            yield from READERS[str(source.format_of(file))](file, needed_columns(config))


def check_columns(config: CollectConfig) -> None:
    """Open every file and look at its columns, so that a wrong mapping is found before anything runs.

    Raises:
        SourceError: naming file, column and the columns that exist.
    """
    for source in config.sources:
        if isinstance(source, FileSource):
            for file in source_files(source):
                next(READERS[str(source.format_of(file))](file, needed_columns(config)), None)


def needed_columns(config: CollectConfig) -> list[str]:
    """The columns that a source must have."""
    mapped = list(config.columns.values()) if config.conversations is None else [config.conversations.column]
    return [*mapped, *([config.id_column] if config.id_column else []), *config.where]


def _require(columns: list[str], existing: list[str], where: str) -> None:
    for column in columns:
        if column not in existing:
            raise SourceError(
                f"The source has no column {column!r}",
                where=where,
                remedy=f"correct collect.columns in the recipe; its columns are: {', '.join(existing)}",
            )


def _read_csv(file: Path, columns: list[str]) -> Iterator[Record]:
    csv.field_size_limit(CSV_FIELD_LIMIT)
    with file.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as stream:
        rows = csv.reader(stream)
        header = next(rows, [])
        _require(columns, header, f"{file}:1")
        while True:
            line = rows.line_num + 1
            try:
                row = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                yield Record(file.name, line, None, "", f"unreadable CSV: {error}")
                continue
            if not row:
                continue
            if len(row) != len(header):
                problem = f"{len(row)} fields where the header has {len(header)}"
                yield Record(file.name, line, None, readable(",".join(row)), problem)
            else:
                yield Record(file.name, line, dict(zip(header, row, strict=True)))


def _read_jsonl(file: Path, columns: list[str]) -> Iterator[Record]:
    seen: set[str] = set()
    with file.open(encoding="utf-8-sig", errors="surrogateescape") as stream:
        for line, text in enumerate(stream, 1):
            if not text.strip():
                continue
            try:
                values = json.loads(text)
            except (ValueError, RecursionError) as error:
                yield Record(file.name, line, None, readable(text.rstrip("\n")), f"unreadable JSON: {error}")
                continue
            if not isinstance(values, dict):
                yield Record(file.name, line, None, readable(text.rstrip("\n")), "the line is no JSON object")
                continue
            if not seen:
                _require(columns, list(values), f"{file}:{line}")
            seen.update(values)
            yield Record(file.name, line, values)


def _read_parquet(file: Path, columns: list[str]) -> Iterator[Record]:
    try:
        parquet = pq.ParquetFile(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise SourceError(f"The Parquet file cannot be read: {error}", where=str(file)) from error
    _require(columns, parquet.schema_arrow.names, str(file))
    line = 0
    for batch in parquet.iter_batches(PARQUET_BATCH_ROWS, columns=list(dict.fromkeys(columns))):
        for values in batch.to_pylist():
            line += 1
            yield Record(file.name, line, values)


def _read_hub(source: HubSource, columns: list[str]) -> Iterator[Record]:
    import datasets

    try:
        rows = datasets.load_dataset(source.hub, split=source.split, revision=source.revision, streaming=True)
    except (OSError, ValueError, datasets.exceptions.DatasetNotFoundError) as error:
        raise SourceError(
            f"The data set cannot be loaded: {error}",
            where=f"{source.hub} (split {source.split})",
            remedy="check the id, the split and the network; a folder in the hub's layout works offline",
        ) from error
    for line, values in enumerate(rows, 1):
        if line == 1:
            _require(columns, list(values), source.hub)
        yield Record(source.name, line, dict(values))


def readable(text: str) -> str:
    """A text whose undecodable bytes are written as escapes, so that it can be stored."""
    try:
        content = text.encode("utf-8", errors="surrogateescape")
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can spell
        content = text.encode("utf-8", errors="backslashreplace")
    return content.decode("utf-8", errors="backslashreplace")


READERS: dict[str, Callable[[Path, list[str]], Iterator[Record]]] = {
    "csv": _read_csv,
    "jsonl": _read_jsonl,
    "parquet": _read_parquet,
}
