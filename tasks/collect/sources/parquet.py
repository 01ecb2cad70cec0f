"""Parquet: rows of a columnar file, a bounded batch at a time."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.collect.records import Record
from tasks.collect.sources.features import ReadRow, read_record, row_reader
from tasks.collect.sources.row_values import Fit, Unfit, printed
from tasks.collect.sources.unpack import HEAD_BYTES, BrokenStream, packing_of, unpacked
from tasks.core.errors import SourceError
from tasks.core.files import storable

BATCH_BYTES = 8 * 2**20
MOST_BATCH_ROWS = 10_000
MOST_UNPACKED_BYTES = 16 * 2**30
"""Largest unpacked size on disk: a packed Parquet file can only be read as a whole."""
FAULTS = (pa.ArrowException, OSError, ValueError, OverflowError)


def read_parquet(path: Path, source: str, fit: Fit) -> Iterator[Record]:
    """A record for every row, read as :func:`row_reader` does; NaN is a missing value.

    An unreadable row group is one record with its problem.
    """
    fit = replace(fit, nan_is_missing=True)
    with _opened(path) as parquet:
        names = parquet.schema_arrow.names
        wanted = None if fit.columns is None else [name for name in names if name in fit.columns]
        read = row_reader(parquet.schema_arrow)
        first = 1
        for group in range(parquet.num_row_groups):
            rows, size = parquet.metadata.row_group(group).num_rows, parquet.metadata.row_group(group).total_byte_size
            batch_rows = max(1, min(MOST_BATCH_ROWS, BATCH_BYTES * rows // max(size, 1)))
            line = first
            try:
                for batch in parquet.iter_batches(batch_rows, row_groups=[group], columns=wanted):
                    yield from _records(batch, source, line, fit, read)
                    line += batch.num_rows
            except FAULTS as error:
                problem = f"rows {line} to {first + rows - 1} cannot be read: {error}"
                yield Record(source, line, None, "", problem)
            first = max(first + rows, line)  # a damaged footer may count less than was read


def column_names(path: Path) -> list[str]:
    with _opened(path) as parquet:
        return list(parquet.schema_arrow.names)


def decimal_columns(path: Path) -> frozenset[str]:
    """The columns of decimals, whose values are read as text."""
    with _opened(path) as parquet:
        return frozenset(field.name for field in parquet.schema_arrow if pa.types.is_decimal(field.type))


@contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    with tempfile.TemporaryFile() as unpacked_file:
        is_packed = _is_packed(path)
        if is_packed:
            _unpack(path, unpacked_file)
        try:
            # Without pre-buffering and with a small buffer, memory holds pages, not whole row groups.
            parquet = pq.ParquetFile(unpacked_file if is_packed else path, pre_buffer=False, buffer_size=2**20)
            names = parquet.schema_arrow.names
        except FAULTS as error:
            raise SourceError(f"The Parquet file cannot be read: {error}", where=storable(str(path))) from error
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise SourceError(f"The Parquet file repeats a column: {', '.join(twice)}", where=storable(str(path)))
        with parquet:
            yield parquet


def _is_packed(path: Path) -> bool:
    with path.open("rb") as file:
        return packing_of(file.read(HEAD_BYTES)) is not None


def _unpack(path: Path, file: Any) -> None:
    size = 0
    try:
        for block in unpacked(path):
            size += file.write(block)
            if size > MOST_UNPACKED_BYTES:
                what = f"The Parquet file unpacks to more than {MOST_UNPACKED_BYTES:,} bytes"
                remedy = "unpack it first: Parquet is compressed inside"
                raise SourceError(what, where=storable(str(path)), remedy=remedy)
    except BrokenStream as broken:
        raise SourceError(f"The Parquet file cannot be unpacked: {broken}", where=storable(str(path))) from broken
    file.seek(0)


def _records(batch: pa.RecordBatch, source: str, first: int, fit: Fit, read: ReadRow) -> Iterator[Record]:
    try:
        rows = batch.to_pylist()
    except FAULTS:  # a value that Python cannot hold, such as a date in the year 200,000: find its row
        for number in range(batch.num_rows):
            yield _single(batch.slice(number, 1), source, first + number, fit, read)
        return
    for number, values in enumerate(rows, first):
        yield _record(values, source, number, fit, read)


def _single(row: pa.RecordBatch, source: str, line: int, fit: Fit, read: ReadRow) -> Record:
    try:
        values = row.to_pylist()[0]
    except FAULTS as error:
        return Record(source, line, None, "", f"a value cannot be read: {error}")
    return _record(values, source, line, fit, read)


def _record(values: dict[str, Any], source: str, line: int, fit: Fit, read: ReadRow) -> Record:
    try:
        return read_record(source, line, values, read, fit)
    except Unfit as reason:
        return Record(source, line, None, printed(values), str(reason))
