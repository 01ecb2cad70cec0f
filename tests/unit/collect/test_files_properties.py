"""Whatever bytes a file holds: readers raise nothing but a SourceError, and account for every row."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tasks.collect.config import FileFormat
from tasks.collect.records import Record
from tasks.collect.sources import read_file
from tasks.collect.sources.json_items import json_items
from tasks.core.errors import SourceError

MOST = 200
FORMATS: list[FileFormat] = ["csv", "tsv", "json", "jsonl", "parquet", "text", "markdown"]
SYNTAX = st.sampled_from(["{", "}", "[", "]", '"', ",", ":", "\\", "\n", "\r", "a", "1", "é", "\0", " ", '{"a": 1}'])
BYTES = st.binary(max_size=80) | st.lists(SYNTAX, max_size=40).map(lambda parts: "".join(parts).encode())
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


def read(content: bytes, format: FileFormat, name: str = "a", most: int = MOST) -> list[Record]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(content)
        return list(read_file(path, format, name="a", max_field_bytes=most))


def assert_storable(record: Record) -> None:
    """A record can be stored, and it is either readable or says why it is not."""
    assert (record.values is None) == bool(record.problem)
    json.dumps(record.values, allow_nan=False, ensure_ascii=False).encode()
    (record.raw + record.problem + record.source).encode()
    assert record.line >= 1


@given(BYTES, st.sampled_from(FORMATS), st.sampled_from(["a", "a.gz", "a.zst"]))
@settings(max_examples=150, deadline=None)
@example(b"\xff\xfea", "csv", "a")
@example(b"\x1f\x8b", "csv", "a.gz")
@example(b'{"a": [{}', "json", "a")
def test_any_bytes_in_any_format_give_records_or_one_source_error(
    content: bytes, format: FileFormat, name: str
) -> None:
    try:
        records = read(content, format, name)
    except SourceError:
        return
    for record in records:
        assert_storable(record)


@given(st.binary(min_size=1, max_size=60), st.integers(0, 2000), st.sampled_from(["gz", "zst"]))
@settings(max_examples=150, deadline=None)
def test_damage_anywhere_in_a_packed_file_stops_nothing(damage: bytes, place: int, ending: str) -> None:
    rows = "".join(json.dumps({"n": number, "text": str(number**9)}) + "\n" for number in range(100)).encode()
    packed = gzip.compress(rows) if ending == "gz" else zstandard.compress(rows)
    place %= len(packed)
    try:
        records = read(packed[:place] + damage + packed[place + len(damage) :], "jsonl", f"a.{ending}")
    except SourceError:
        return
    for record in records:
        assert_storable(record)


@given(st.binary(min_size=1, max_size=30), st.integers(0, 5000))
@settings(max_examples=150, deadline=None)
@example(b"\x01", 2174)  # the first row group has less than no rows, says the footer
def test_damage_anywhere_in_a_parquet_file_is_told_or_stops_nothing(damage: bytes, place: int) -> None:
    buffer = io.BytesIO()
    table = pa.table({"text": [str(number**5) for number in range(100)], "n": list(range(100))})
    pq.write_table(table, buffer, row_group_size=50)
    content = buffer.getvalue()
    place %= len(content)
    try:
        records = read(content[:place] + damage + content[place + len(damage) :], "parquet")
    except SourceError:
        return
    for record in records:
        assert_storable(record)


@given(st.lists(BYTES.map(lambda line: line.replace(b"\n", b" ")), max_size=8))
@settings(max_examples=100, deadline=None)
def test_every_line_of_json_lines_that_is_not_blank_is_one_record(lines: list[bytes]) -> None:
    content = b'{"first": 1}\n' + b"\n".join(lines)
    expected = [1, *(number for number, line in enumerate(lines, 2) if line.strip())]
    assert [record.line for record in read(content, "jsonl")] == expected


@given(st.lists(st.dictionaries(TEXT, VALUES, max_size=4), max_size=6), st.sampled_from([None, 0, 3]))
@settings(max_examples=100, deadline=None)
def test_objects_come_back_from_json_and_json_lines_as_they_were(
    rows: list[dict[str, Any]], indent: int | None
) -> None:
    document = json.dumps(rows, indent=indent, ensure_ascii=bool(indent)).encode()
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    assert [record.values for record in read(document, "json", most=10**6)] == rows
    assert [record.values for record in read(lines, "jsonl", most=10**6)] == rows


@given(st.lists(st.lists(TEXT, min_size=2, max_size=2), max_size=8), st.sampled_from([",", "\t"]))
@settings(max_examples=100, deadline=None)
def test_a_written_csv_comes_back_row_by_row(rows: list[list[str]], delimiter: str) -> None:
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=delimiter, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerows([["one", "two"], *rows])
    records = read(stream.getvalue().encode(), "csv" if delimiter == "," else "tsv")
    expected = [[value.replace("\r\n", "\n") for value in row] for row in rows]
    found = [list(record.values.values()) if record.values else record.problem for record in records]
    assert found == expected


@given(st.lists(SYNTAX, max_size=40).map(lambda parts: "".join(parts).encode()), st.integers(1, 7))
@settings(max_examples=150, deadline=None)
def test_where_a_document_is_split_into_blocks_changes_nothing(rest: bytes, size: int) -> None:
    content = b'[{"a": "x\\"y"},' + rest
    blocks = [content[start : start + size] for start in range(0, len(content), size)]
    assert _items(blocks) == _items([content])


def _items(blocks: list[bytes]) -> list[tuple[int, bytes, bool]]:
    """Without what follows the document, which is looked at only until it is not blank."""
    found = [(line.number, line.content.strip(), bool(line.problem)) for line in json_items(blocks, 1000)]
    return [(number, b"" if broken else content, broken) for number, content, broken in found]
