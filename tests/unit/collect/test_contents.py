"""Files under a wrong name or shape: read where that is safe, else one error that says what the file is."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import json
import lzma
import pickle
import sqlite3
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
import zstandard

from tasks.collect.records import Record
from tasks.collect.sources import format_of, read_file
from tasks.collect.sources.formats import columns_in
from tasks.core.errors import SourceError

CSV = 'word,kind\n"wren, the",bird\ncarp,fish\n'
ROWS = [{"word": "wren, the", "kind": "bird"}, {"word": "carp", "kind": "fish"}]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)


def zipped(content: bytes, **others: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, inside in {"rows.csv": content, **others}.items():
            archive.writestr(name, inside)
    return file.getvalue()


def parquet(rows: list[dict[str, Any]]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file.getvalue()


PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "zst": zstandard.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zip": zipped,
}


def read(path: Path, content: str | bytes) -> list[Record]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    format = format_of(path)
    assert format is not None
    records = list(read_file(path, format, name="a", max_field_bytes=1000))
    if any(record.values for record in records):
        columns = next(list(record.values) for record in records if record.values)
        assert columns_in(path, format, 1000) == columns
    return records


def values(records: list[Record]) -> list[Any]:
    return [record.values for record in records]


def refused(path: Path, content: str | bytes) -> str:
    """The one error that a file gives, from reading it and from looking for its columns."""
    with pytest.raises(SourceError) as caught:
        read(path, content)
    assert caught.value.where.startswith(str(path)) and caught.value.remedy
    return str(caught.value)


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize(
    ("name", "content"), [("a.csv", CSV.encode()), ("a.jsonl", LINES.encode()), ("a.json", LINES.encode()),
                          ("a.parquet", parquet(ROWS))],
)  # fmt: skip
def test_a_packed_file_is_unpacked_by_its_first_bytes_whatever_its_name(
    tmp_path: Path, name: str, content: bytes, packing: str
) -> None:
    packed = PACKINGS[packing](content)
    assert values(read(tmp_path / name, packed)) == ROWS
    for ending in PACKINGS:
        assert values(read(tmp_path / f"{name}.{ending}", packed)) == ROWS


@pytest.mark.parametrize("packing", ["gz", "zst", "zip"])
def test_a_packed_file_that_breaks_gives_the_rows_before(tmp_path: Path, packing: str) -> None:
    rows = "".join(f"{number},{number**9}\n" for number in range(40_000))
    packed = PACKINGS[packing](f"word,kind\n{rows}".encode())
    middle = len(packed) // 2
    *good, bad = read(tmp_path / "a.csv", packed[:middle] + bytes(50) + packed[middle + 50 :])
    assert "data are damaged here" in bad.problem
    assert len(good) > 1_000


@pytest.mark.parametrize("packing", ["bz2", "xz"])
def test_a_packed_file_that_breaks_in_its_only_block_says_so(tmp_path: Path, packing: str) -> None:
    packed = PACKINGS[packing](f"word,kind\n{'wren,bird' * 1_000}".encode())
    assert "data are damaged here" in refused(tmp_path / "a.csv", packed[:24])


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (zipped(b"x\n", more=b"y"), "zip archive of 2 files: rows.csv, more"),
        (zipped(b"x", **{"xl/workbook.xml": b"<workbook/>"}), "an Excel workbook"),
        (gzip.compress(gzip.compress(b"a\nb\n")), "packed twice: inside is gzip"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "Excel or Office file"),
        (b"%PDF-1.7\n%\xe2\xe3\n", "a PDF document"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "an image"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n", "a pointer of Git LFS"),
        (pickle.dumps(ROWS, 4), "a Python pickle"),
        ("\ufeff<!DOCTYPE html>\n<html><body>Not found</body></html>\n".encode(), "a web page (HTML)"),
        (b"<!-- saved -->\n<HTML lang='en'>\n<table>\n", "a web page (HTML)"),
        (b"<?xml version='1.0'?>\n<rows>\n</rows>\n", "an XML document"),
        ("text,b\n1,2\n".encode("utf-32-le"), "UTF-32"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.json"])
def test_what_no_reader_reads_is_one_error_that_says_what_it_is(
    tmp_path: Path, name: str, content: bytes, what: str
) -> None:
    assert what in refused(tmp_path / name, content)


def test_an_archive_a_database_and_a_feather_file_are_named(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("x", encoding="utf-8")
    with tarfile.open(tmp_path / "t.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "x.txt", "x.txt")
    assert "a tar archive" in refused(tmp_path / "a.csv", (tmp_path / "t.tar.gz").read_bytes())
    connection = sqlite3.connect(tmp_path / "d.db")
    connection.execute("CREATE TABLE t (a)")
    connection.commit()
    assert "sql: sqlite:///" in refused(tmp_path / "a.csv", (tmp_path / "d.db").read_bytes())
    feather.write_feather(pa.Table.from_pylist(ROWS), str(tmp_path / "f"), compression="uncompressed")
    assert "Feather" in refused(tmp_path / "a.parquet", (tmp_path / "f").read_bytes())


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.json", "a.tsv"])
def test_parquet_under_another_name_is_read_as_parquet(tmp_path: Path, name: str) -> None:
    assert values(read(tmp_path / name, parquet(ROWS))) == ROWS


def test_a_page_kept_as_text_is_text(tmp_path: Path) -> None:
    (record,) = read(tmp_path / "a.md", "<html>a page</html>")
    assert record.values == {"text": "<html>a page</html>"}


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.ndjson"])
@pytest.mark.parametrize(
    "content",
    [json.dumps(ROWS), json.dumps(ROWS, indent=1), LINES, json.dumps({"a": ROWS}, indent=2), f"\n {json.dumps(ROWS)}"],
    ids=["list", "pretty list", "lines", "pretty object", "list behind blanks"],
)  # fmt: skip
def test_json_is_read_as_a_list_or_as_lines_whatever_its_name(tmp_path: Path, name: str, content: str) -> None:
    assert values(read(tmp_path / name, content)) == ROWS


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("a.jsonl", '[{"role": "user"}]\n[{"role": "user"}]\n', "Each line is a JSON list"),
        ("a.jsonl", CSV, "does not hold JSON objects"),
        ("a.jsonl", "a: 1\nb: 2\nc: 3\n", "does not hold JSON objects"),
        ("a.jsonl", "[1, 2]\n", "does not hold JSON objects"),
        ("a.json", "[[1, 2], [3, 4]]", "does not hold JSON objects"),
        ("a.jsonl", '{\n "a": 1\n}\n{\n "a": 2\n}\n', "does not hold JSON objects"),
    ],
)
def test_rows_that_are_no_objects_are_one_error(tmp_path: Path, name: str, content: str, what: str) -> None:
    assert what in refused(tmp_path / name, content)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig"])
@pytest.mark.parametrize(("name", "content"), [("a.csv", CSV), ("a.jsonl", LINES), ("a.json", json.dumps(ROWS))])
def test_utf_16_is_read_with_and_without_its_mark(tmp_path: Path, name: str, content: str, encoding: str) -> None:
    assert values(read(tmp_path / name, content.encode(encoding))) == ROWS


@pytest.mark.parametrize("end", ["\r", "\r\n", "\r\r\n", "\n"])
@pytest.mark.parametrize(("name", "content"), [("a.csv", CSV), ("a.jsonl", LINES), ("a.csv", CSV.rstrip())])
def test_lines_end_as_on_every_machine(tmp_path: Path, name: str, content: str, end: str) -> None:
    records = read(tmp_path / name, content.replace("\n", end))
    assert values(records) == ROWS
    assert [record.line for record in records] == ([2, 3] if name == "a.csv" else [1, 2])


def test_a_carriage_return_in_a_quoted_field_is_text(tmp_path: Path) -> None:
    (record,) = read(tmp_path / "a.csv", 'word,kind\n"one\rtwo",x\n')
    assert record.values == {"word": "one\rtwo", "kind": "x"}


@pytest.mark.parametrize("mark", [";", "\t", "|", ","])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_another_separator_than_the_name_says_is_found(tmp_path: Path, name: str, mark: str) -> None:
    text = f'word{mark}kind\n"wren, the"{mark}bird\ncarp{mark}fish\n'
    assert values(read(tmp_path / name, text)) == ROWS
    assert values(read(tmp_path / name, f"sep={mark}\n{text}")) == ROWS


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("say; or not\nhello\nbye\n", [{"say; or not": "hello"}, {"say; or not": "bye"}]),
        ("text\na;b\nc;d\n", [{"text": "a;b"}, {"text": "c;d"}]),
    ],
)
def test_a_file_of_one_column_stays_one(tmp_path: Path, content: str, expected: list[Any]) -> None:
    assert values(read(tmp_path / "a.csv", content)) == expected


# Joined files


BOM = codecs.BOM_UTF8.decode()


@pytest.mark.parametrize(
    "header", ["word,kind", f"{BOM}word,kind", '"word","kind"', f'{BOM}"word",kind', "word,kind\r", "word,kind,"]
)
def test_a_header_that_comes_again_is_set_aside_by_name(tmp_path: Path, header: str) -> None:
    records = read(tmp_path / "a.csv", f"word,kind\nwren,bird\n{header}\ncarp,fish\n")
    assert [record.values and record.values["word"] for record in records] == ["wren", None, "carp"]
    assert (records[1].line, records[1].rule) == (3, "repeated_header")
    assert "word" in records[1].raw


def test_a_mark_in_the_middle_is_no_part_of_a_row(tmp_path: Path) -> None:
    assert values(read(tmp_path / "a.csv", f'word,kind\nwren,bird\n{BOM}"carp",fish\n')) == [
        {"word": "wren", "kind": "bird"},
        {"word": "carp", "kind": "fish"},
    ]
    assert values(read(tmp_path / "a.jsonl", LINES + BOM + LINES)) == [*ROWS, *ROWS]


def test_a_header_in_another_order_stops_the_file(tmp_path: Path) -> None:
    assert "another order" in refused(tmp_path / "a.csv", "word,kind\nwren,bird\nkind,word\nfish,carp\n")


# Columns without a name


@pytest.mark.parametrize(
    "content",
    [
        "word,kind,,\nwren,bird,,\ncarp,fish,,\n",
        "word,kind,,\nwren,bird\ncarp,fish,,\n",
        ",word,kind\n0,wren,bird\n1,carp,fish\n",
        "word,, ,kind\nwren,,x,bird\ncarp,,,fish\n",
        "word,kind\nwren,bird,\ncarp,fish,,,\n",
        "word;kind;\nwren;bird;\ncarp;fish;\n",
    ],
    ids=["trailing", "only in the header", "index", "between", "only in rows", "semicolons"],
)
def test_columns_without_a_name_are_not_read(tmp_path: Path, content: str) -> None:
    assert values(read(tmp_path / "a.csv", content)) == [
        {"word": "wren", "kind": "bird"},
        {"word": "carp", "kind": "fish"},
    ]


def test_a_value_beyond_the_header_costs_its_row(tmp_path: Path) -> None:
    good, bad, short = read(tmp_path / "a.csv", "word,kind,\nwren,bird,x\ncarp,fish,,more\ncrow\n")
    assert good.values == {"word": "wren", "kind": "bird"}
    assert "4 fields where the header has 3" in bad.problem and "1 fields" in short.problem
