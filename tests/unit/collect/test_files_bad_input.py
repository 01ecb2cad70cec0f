"""Bad input in files: each row is given or named with its line and reason, and no damage costs more than itself."""

from __future__ import annotations

import datetime
import decimal
import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from tasks.collect.records import Record
from tasks.collect.sources import format_of, read_file
from tasks.core.errors import SourceError

GOOD = '{"text": "hi"}'


def read(path: Path, content: str | bytes, most: int = 1000) -> list[Record]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    format = format_of(path)
    assert format is not None
    return list(read_file(path, format, name=path.name, max_field_bytes=most))


def outcomes(records: list[Record]) -> list[tuple[int, Any]]:
    """The line of each record, and its ``text`` or None where it cannot be read."""
    return [(record.line, None if record.values is None else record.values["text"]) for record in records]


def read_apart(path: Path) -> tuple[int, int, int]:
    """In a process of its own: the records, the readable ones, and the most memory that it held in MiB."""
    code = f"""
from pathlib import Path
from tasks.collect.sources import format_of, read_file
path, rows, readable = Path({str(path)!r}), 0, 0
for record in read_file(path, format_of(path), name="a", max_field_bytes=2**20):
    rows, readable = rows + 1, readable + (record.values is not None)
status = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
print(rows, readable, int(status["VmHWM"].split()[0]) // 1024)  # getrusage would count the parent, before exec
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    rows, readable, mebibytes = map(int, done.stdout.split())
    return rows, readable, mebibytes


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize(
    ("name", "content"),
    [("a.csv", "text\nhé\n"), ("a.jsonl", '{"text": "hé"}\n'), ("a.json", '[{"text": "hé"}]'), ("a.txt", "hé")],
)
def test_a_byte_order_mark_tells_the_encoding_and_is_no_part_of_it(
    tmp_path: Path, name: str, content: str, encoding: str
) -> None:
    (record,) = read(tmp_path / name, content.encode(encoding))
    assert record.values == {"text": "hé"}


def test_utf_16_that_breaks_is_found_in_its_row_and_utf_32_is_refused(tmp_path: Path) -> None:
    text = "text\ngood\nbad\n".encode("utf-16-le").replace("b".encode("utf-16-le"), b"\x00\xd8")
    assert outcomes(read(tmp_path / "a.csv", b"\xff\xfe" + text)) == [(2, "good"), (3, None)]
    assert outcomes(read(tmp_path / "a.csv", b"\xff\xfe" + "text\ngood".encode("utf-16-le") + b"x")) == [(2, None)]
    with pytest.raises(SourceError, match="UTF-32"):
        read(tmp_path / "a.csv", "text\n".encode("utf-32"))


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("a.csv", b"text,x\ngood,1\ncaf\xe9,2\n", 3),
        ("a.jsonl", b'{"text": "good"}\n{"text": "caf\xe9"}\n', 2),
        ("a.json", b'[{"text": "good"},\n{"text": "caf\xe9"}]', 2),
        ("a.txt", b"caf\xe9", 1),
    ],
)
def test_a_broken_encoding_costs_its_row_and_keeps_its_bytes(
    tmp_path: Path, name: str, content: bytes, line: int
) -> None:
    *before, bad = read(tmp_path / name, content)
    assert all(record.values for record in before)
    assert bad.values is None and bad.line == line
    assert "not UTF-8: byte 0xe9" in bad.problem and "caf\\xe9" in bad.raw


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "text\nn\0\n"),
        ("a.jsonl", '{"text": "n\\u0000"}'),
        ("a.json", '[{"text": "n\\u0000"}]'),
        ("a.txt", "\0"),
    ],
)
def test_a_nul_byte_costs_its_row(tmp_path: Path, name: str, content: str) -> None:
    (record,) = read(tmp_path / name, content)
    assert record.values is None and "NUL" in record.problem


ROWS = [
    ("[1, 2]", "not a JSON object"),
    ('"text"', "not a JSON object"),
    ("[" * 100_000 + "]" * 100_000, "unreadable JSON"),
    ('{"text": ' + "[" * 100 + "]" * 100 + "}", "more than 64 levels deep"),
    ("9" * 5_000, "unreadable JSON"),
    ('{"text": NaN}', "NaN is not a JSON number"),
    ('{"text": -Infinity}', "-Infinity is not a JSON number"),
    ('{"text": 1e999}', "1e999 is not a JSON number"),
    ('{"text": 1, "text": 2}', "'text' appears twice"),
    ('{"a": {"b": 1, "b": 2}}', "'b' appears twice"),
    ('{"text": "\\ud800"}', "surrogate pair, U+D800"),
    ('{"\\udfff": 1}', "surrogate pair, U+DFFF"),
]
"""Rows that cannot be used, and why; half an object in a document would take what follows with it."""


@pytest.mark.parametrize(
    ("name", "row", "problem"),
    [
        ("a.jsonl", '{"text": "hal', "unreadable JSON"),
        *((name, *row) for name in ("a.jsonl", "a.json") for row in ROWS),
    ],
    ids=lambda value: value[:20],
)
def test_a_row_of_json_that_cannot_be_used_keeps_its_text_and_costs_no_other(
    tmp_path: Path, name: str, row: str, problem: str
) -> None:
    content = f"{GOOD}\n\n{row}\n{GOOD}" if name == "a.jsonl" else f"[{GOOD},\n\n{row},\n{GOOD}]"
    records = read(tmp_path / name, content, most=10**6)
    assert [(record.line, record.values is None) for record in records] == [(1, False), (3, True), (4, False)]
    assert problem in records[1].problem and records[1].raw == row[:100_000]


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress], ids=["gz", "zst"])
@pytest.mark.parametrize("kind", ["csv", "jsonl", "json"])
def test_a_truncated_packed_file_gives_the_rows_before_the_break(tmp_path: Path, pack: Any, kind: str) -> None:
    texts = [os.urandom(30).hex() for _ in range(9000)]
    rows = {
        "csv": "text\n" + "\n".join(texts),
        "jsonl": "\n".join(json.dumps({"text": text}) for text in texts),
        "json": json.dumps([{"text": text} for text in texts], indent=0),
    }
    packed = pack(rows[kind].encode())
    ending = "gz" if pack is gzip.compress else "zst"
    *before, bad = read(tmp_path / f"a.{kind}.{ending}", packed[: len(packed) * 3 // 4])
    assert len(before) > 2000
    assert [(record.values or {})["text"] for record in before] == texts[: len(before)]
    assert bad.values is None and bad.line >= before[-1].line
    assert "data are damaged here" in bad.problem or "are truncated" in bad.problem


@pytest.mark.parametrize("ending", ["gz", "zst"])
def test_a_damaged_packed_file_and_one_of_another_kind_are_told(tmp_path: Path, ending: str) -> None:
    pack = gzip.compress if ending == "gz" else zstandard.compress
    damaged = pack(b"text\ngood\n") + b"rubbish"
    *before, bad = read(tmp_path / f"a.csv.{ending}", damaged)
    assert outcomes(before) == [(2, "good")] and "are damaged here" in bad.problem
    with pytest.raises(SourceError, match="not packed with"):
        read(tmp_path / f"a.csv.{ending}", b"text\ngood\n")
    assert outcomes(read(tmp_path / f"a.csv.{ending}", pack(b"text\none\n") + pack(b"two\n"))) == [
        (2, "one"),
        (3, "two"),
    ]


def test_a_field_above_the_limit_costs_its_row_in_every_format(tmp_path: Path) -> None:
    large = "x" * 1001
    pq.write_table(pa.table({"text": ["good", large]}), tmp_path / "b.parquet")
    contents: dict[str, str | bytes] = {
        "a.csv": f"text,n\ngood,1\n{large},2\n",
        "a.jsonl": f'{GOOD}\n{{"text": ["{large}"]}}\n',
        "a.json": f'[{GOOD},{{"text": "{large}"}}]',
        "a.parquet": (tmp_path / "b.parquet").read_bytes(),
    }
    for name, content in contents.items():
        good, bad = read(tmp_path / name, content)
        assert good.values and bad.values is None and "1,001 bytes, more than 1,000" in bad.problem, name
    (record,) = read(tmp_path / "a.md", large)
    assert record.values is None and "1,001 bytes" in record.problem


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.csv.gz", "a.json.gz", "a.txt.gz", "a.jsonl.zst"])
def test_a_bomb_of_one_endless_row_is_one_problem_in_little_memory(tmp_path: Path, name: str) -> None:
    heads = {"a.csv": b'text\n"', "a.jsonl": b'{"text": "', "a.json": b'[{"text": "', "a.txt": b""}
    path = tmp_path / name
    with path.open("wb") as file, gzip.open(file, "wb") if name.endswith("gz") else _zstd(file) as packed:
        packed.write(heads[name.rpartition(".")[0]])
        for _ in range(160):
            packed.write(b"x" * 2**20)
    rows, readable, mebibytes = read_apart(path)
    assert rows <= 2 and not readable and mebibytes < 200


def _zstd(file: Any) -> Any:
    return zstandard.ZstdCompressor().stream_writer(file, closefd=False)


# CSV


def test_a_csv_row_is_placed_where_it_begins_though_quoted_lines_lie_before(tmp_path: Path) -> None:
    records = read(
        tmp_path / "a.csv", 'text,label\r\n"one\r\ntwo\nthree",cards\r\nfour,bills\r\n\r\n"five,\n""six""",x'
    )
    assert outcomes(records) == [(2, "one\ntwo\nthree"), (5, "four"), (7, 'five,\n"six"')]


def test_a_ragged_row_is_kept_with_its_text_and_the_ones_around_it_are_read(tmp_path: Path) -> None:
    records = read(tmp_path / "a.csv", 'text,label\na,cards\nb\nc,bills,more\n"d\nd"\ne,cards\n')
    assert outcomes(records) == [(2, "a"), (3, None), (4, None), (5, None), (7, "e")]
    assert records[1].raw == "b" and records[1].problem == "1 fields where the header has 2"
    assert records[3].raw == '"d\nd"' and "(lines 5 to 6)" in records[3].problem


@pytest.mark.parametrize("rest", ["c,3\nd,4\n", 'c,"3"\nd,4\n', 'c,3\n"d\nd",4\n'])
def test_a_quote_that_nothing_closes_costs_its_line_alone(tmp_path: Path, rest: str) -> None:
    records = read(tmp_path / "a.csv", f'text,n\na,1\n"b,2\n{rest}')
    assert [(record.line, record.values is None) for record in records] == [
        (2, False),
        (3, True),
        (4, False),
        (5, False),
    ]
    assert records[1].raw == '"b,2' and "unreadable CSV" in records[1].problem


def test_an_open_quote_far_from_the_end_is_given_up_at_the_size_of_a_row(tmp_path: Path) -> None:
    rows = "".join(f"row {number},x\n" for number in range(2000))
    records = read(tmp_path / "a.csv", f'text,n\n"open,1\n{rows}')
    assert records[0].values is None and "is longer than 4,000 bytes" in records[0].problem
    assert len(records) == 2001 and all(record.values for record in records[1:])


def test_a_file_of_open_quotes_does_not_take_forever(tmp_path: Path) -> None:
    """Read from any line, the last field of this file goes on to the end."""
    records = read(tmp_path / "a.csv", "text,n\n" + 'a","\n' * 30_000)
    assert len(records) == 30_000 and not any(record.values for record in records)
    assert "too many in this file never end" in records[-2].problem


@pytest.mark.parametrize(
    ("header", "problem"),
    [("text,text", "repeats a column: 'text'"), ('"text', "header cannot be read"), ("te\0xt", "NUL byte")],
)
def test_a_header_that_cannot_be_used_is_one_clear_error(tmp_path: Path, header: str, problem: str) -> None:
    with pytest.raises(SourceError, match=problem) as caught:
        read(tmp_path / "a.csv", f"{header}\na,b\n")
    assert caught.value.where.endswith("a.csv")


# JSON documents


def test_a_pretty_printed_list_is_placed_by_its_lines(tmp_path: Path) -> None:
    content = json.dumps([{"text": "a, ]}", "more": [{"x": '"['}]}, {"text": "b\\"}], indent=2)
    assert outcomes(read(tmp_path / "a.json", content)) == [(2, "a, ]}"), (10, "b\\")]


@pytest.mark.parametrize(
    ("document", "texts"),
    [
        ('{"data": [{"text": "a"}, {"text": "b"}], "total": 2}', ["a", "b"]),
        ('{"meta": {"pages": [1]}, "rows": [\n{"text": "a"}\n]}', ["a"]),
        ('{"text": "a", "tags": ["x", "y"]}', ["a"]),
        ('{"text": "a", "messages": [{"role": "user", "content": "x"}], "tools": [{"name": "t"}]}', ["a"]),
        ('{"text": "a", "conversations": [{"from": "human", "value": "x"}]}', ["a"]),
        ('{"text": "a"}\n{"text": "b"}\n', ["a", "b"]),
        ('{"text": "a", "messages": [{"role": "user", "content": "x"}]}\n{"text": "b"}', ["a", "b"]),
        ("[]", []),
        (" \n", []),
    ],
    ids=["wrapped", "wrapped later", "one row", "conversation", "sharegpt", "lines", "lines of talk", "none", "empty"],
)
def test_the_rows_of_a_document_are_found(tmp_path: Path, document: str, texts: list[str]) -> None:
    assert [(record.values or {}).get("text") for record in read(tmp_path / "a.json", document)] == texts


def test_two_lists_of_rows_in_one_object_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match='several lists of rows: "train", "test"'):
        read(tmp_path / "a.json", '{"train": [{"text": "a"}], "test": [{"text": "b"}]}')


@pytest.mark.parametrize("content", ["text,label", "42", "NaN", '"text"'])
def test_a_document_of_neither_kind_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(SourceError, match="neither a JSON list nor a JSON object"):
        read(tmp_path / "a.json", content)


@pytest.mark.parametrize(
    ("document", "expected", "problem"),
    [
        ('[{"text": "a"},\n{"text": "b"}', [(1, "a"), (2, "b"), (2, None)], "ends too early"),
        ('[{"text": "a"},\n{"text": "b', [(1, "a"), (2, None)], "ends too early"),
        ('{"data": [{"text": "a"},\n{"tex', [(1, "a"), (2, None)], "ends too early"),
        ('[{"text": "a"}]\n[{"text": "b"}]', [(1, "a"), (2, None)], "content follows the end"),
        ('[{"text": "a"} {"text": "b"},\n{"text": "c"}]', [(1, None), (2, "c")], "Extra data"),
        ('[{"text": "a"},, {"text": "b"}]', [(1, "a"), (1, None), (1, "b")], "an item is missing between two commas"),
    ],
    ids=["no end", "half a row", "half a wrapped row", "second document", "no comma", "two commas"],
)
def test_a_damaged_document_gives_the_rows_around_the_damage(
    tmp_path: Path, document: str, expected: list[tuple[int, Any]], problem: str
) -> None:
    records = read(tmp_path / "a.json", document)
    assert outcomes(records) == expected
    assert problem in next(record.problem for record in records if record.values is None)


def test_a_giant_item_and_its_lines_are_skipped_and_counted(tmp_path: Path) -> None:
    giant = '{"text": "' + "x" * 300_000 + '",\n"n": [\n' + "1,\n" * 300_000 + "1]}"
    records = read(tmp_path / "a.json", f"[{GOOD},\n{giant},\n{GOOD}]")
    assert [(record.line, record.values is None) for record in records] == [(1, False), (2, True), (300_005, False)]
    assert f"{len(giant):,} bytes" in records[1].problem


# Parquet


def test_values_of_parquet_become_what_json_can_hold(tmp_path: Path) -> None:
    moment = datetime.datetime(2026, 1, 2, 3, 4, tzinfo=datetime.UTC)
    row = {
        "text": b"bytes",
        "when": moment,
        "day": moment.date(),
        "price": decimal.Decimal("1.10"),
        "missing": float("nan"),
        "nested": [{"when": moment, "n": 1}],
        "nothing": None,
    }
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "a.parquet")
    (record,) = read_file(tmp_path / "a.parquet", "parquet", name="a", max_field_bytes=1000)
    assert record.values == {
        "text": "bytes",
        "when": "2026-01-02T03:04:00+00:00",
        "day": "2026-01-02",
        "price": "1.10",
        "missing": None,
        "nested": [{"when": "2026-01-02T03:04:00+00:00", "n": 1}],
        "nothing": None,
    }
    json.dumps(record.values, allow_nan=False)


def test_a_parquet_value_that_no_document_can_hold_costs_its_row(tmp_path: Path) -> None:
    far = pa.array([0, 2**62, 0, 0], pa.timestamp("us"))
    table = pa.table({"text": [b"a", b"b", b"\xff", b"d"], "when": far, "n": [1.0, 1.0, 1.0, float("inf")]})
    pq.write_table(table, tmp_path / "a.parquet")
    records = list(read_file(tmp_path / "a.parquet", "parquet", name="a", max_field_bytes=1000))
    assert [record.values is None for record in records] == [False, True, True, True]
    assert [record.line for record in records] == [1, 2, 3, 4]
    assert "not UTF-8" in records[2].problem and "inf" in records[3].problem


def test_a_parquet_broken_in_its_middle_gives_the_other_row_groups(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pa.table({"text": [os.urandom(20).hex() for _ in range(300)]})
    pq.write_table(table, path, row_group_size=100, use_dictionary=False, compression="zstd")
    start = pq.ParquetFile(path).metadata.row_group(1).column(0).data_page_offset
    content = bytearray(path.read_bytes())
    content[start : start + 200] = bytes(200)
    records = read(path, bytes(content))
    (bad,) = (record for record in records if record.values is None)
    assert bad.line == 101 and "rows 101 to 200 cannot be read" in bad.problem
    assert [record.line for record in records if record.values] == [*range(1, 101), *range(201, 301)]


@pytest.mark.parametrize("content", [b"", b"nonsense", b"PAR1" + b"\0" * 20 + b"PAR1"], ids=["empty", "text", "magic"])
def test_a_file_that_is_no_parquet_is_named(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(SourceError, match="Parquet file cannot be read") as caught:
        read(tmp_path / "a.parquet", content)
    assert caught.value.where.endswith("a.parquet")


def test_a_packed_parquet_file_is_read_and_a_truncated_one_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "a.parquet")
    packed = gzip.compress((tmp_path / "a.parquet").read_bytes())
    assert outcomes(read(tmp_path / "b.parquet.gz", packed)) == [(1, "a")]
    with pytest.raises(SourceError, match="cannot be unpacked"):
        read(tmp_path / "b.parquet.gz", packed[:-20])


def test_a_column_named_twice_in_parquet_is_refused(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(SourceError, match="repeats a column: text"):
        list(read_file(tmp_path / "a.parquet", "parquet", name="a", max_field_bytes=1000))


def test_one_large_row_group_is_read_in_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    schema = pa.schema([("text", pa.string())])
    with pq.ParquetWriter(path, schema, use_dictionary=False, compression="none") as writer:
        writer.write_table(pa.table({"text": [f"{n:06d}" * 2000 for n in range(30_000)]}), row_group_size=30_000)
    assert path.stat().st_size > 300 * 2**20
    rows, readable, mebibytes = read_apart(path)
    assert rows == readable == 30_000 and mebibytes < 400
