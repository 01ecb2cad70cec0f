"""Reading sources row by row: lines as an editor counts them, and what cannot be read with its reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.collect.config import CollectConfig
from tasks.collect.readers import Record, check_columns, read_records, source_files
from tasks.core.errors import SourceError


def config(path: Path | dict[str, Any], **settings: Any) -> CollectConfig:
    source = path if isinstance(path, dict) else {"path": str(path)}
    columns = {"message": "text", "queue": "label"}
    return CollectConfig.model_validate({"sources": [source], "columns": columns, **settings})


def read(path: Path, content: str | bytes) -> list[Record]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(read_records(config(path)))


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    mark = b"\xef\xbb\xbf"
    assert read(tmp_path / "a.csv", mark + b"text,label\nhi,cards\n")[0].values == {"text": "hi", "label": "cards"}
    assert read(tmp_path / "a.jsonl", mark + b'{"text": "hi", "label": "cards"}\n')[0].values is not None


def test_a_csv_row_is_placed_where_it_begins_though_quoted_lines_lie_before(tmp_path: Path) -> None:
    records = read(tmp_path / "a.csv", 'text,label\n"one\ntwo\nthree",cards\nfour,bills\n\n"five,\n""six""",cards\n')
    assert [(record.line, (record.values or {})["text"]) for record in records] == [
        (2, "one\ntwo\nthree"),
        (5, "four"),
        (7, 'five,\n"six"'),
    ]


def test_a_ragged_row_is_kept_with_its_text_and_the_ones_around_it_are_read(tmp_path: Path) -> None:
    records = read(tmp_path / "a.csv", "text,label\na,cards\nb\nc,bills,more\nd,cards\n")
    assert [record.values is None for record in records] == [False, True, True, False]
    assert records[1].raw == "b" and "1 fields where the header has 2" in records[1].problem
    assert records[2].raw == "c,bills,more" and records[2].line == 4


def test_a_field_beyond_all_measure_is_one_unreadable_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.collect.readers.CSV_FIELD_LIMIT", 100)
    records = read(tmp_path / "a.csv", f"text,label\n{'x' * 101},cards\nb,bills\n")
    assert [record.values is None for record in records] == [True, False]
    assert "field limit" in records[0].problem and records[0].line == 2


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"text": "hal', "unreadable JSON"),
        ("[1, 2]", "no JSON object"),
        ('"text"', "no JSON object"),
        ("[" * 100_000, "unreadable JSON"),
        ("9" * 5_000, "unreadable JSON"),
    ],
    ids=["half", "list", "string", "deep", "long number"],
)
def test_a_line_that_is_no_object_is_kept_with_its_text(tmp_path: Path, line: str, problem: str) -> None:
    good = '{"text": "hi", "label": "cards"}'
    records = read(tmp_path / "a.jsonl", f"{good}\n\n{line}\n{good}")
    assert [(record.line, record.values is None) for record in records] == [(1, False), (3, True), (4, False)]
    assert problem in records[1].problem and records[1].raw == line


def test_a_later_object_may_lack_a_field_and_the_first_may_not(tmp_path: Path) -> None:
    good = '{"text": "hi", "label": "cards"}\n'
    assert read(tmp_path / "a.jsonl", good + '{"text": "hi"}\n')[1].values == {"text": "hi"}
    with pytest.raises(SourceError, match="no column 'label'"):
        read(tmp_path / "a.jsonl", '{"text": "hi"}\n' + good)


def test_parquet_rows_have_only_the_columns_that_are_needed(tmp_path: Path) -> None:
    table = pa.table({"text": ["a", "b"], "label": ["x", "y"], "blob": [b"1", b"2"], "id": [7, 8]})
    pq.write_table(table, tmp_path / "a.parquet")
    records = list(read_records(config(tmp_path / "a.parquet", id_column="id")))
    assert [(record.line, record.values) for record in records] == [
        (1, {"text": "a", "label": "x", "id": 7}),
        (2, {"text": "b", "label": "y", "id": 8}),
    ]


def test_a_file_that_is_no_parquet_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"nonsense")
    with pytest.raises(SourceError, match="Parquet file cannot be read") as caught:
        check_columns(config(tmp_path / "a.parquet"))
    assert caught.value.where.endswith("a.parquet")


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_missing_column_is_told_with_the_file_and_the_columns_there_are(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    if kind == "parquet":
        pq.write_table(pa.table({"text": ["a"], "labl": ["b"]}), path)
    else:
        path.write_text("text,labl\na,b\n" if kind == "csv" else '{"text": "a", "labl": "b"}\n', encoding="utf-8")
    with pytest.raises(SourceError, match="no column 'label'") as caught:
        check_columns(config(path))
    assert str(path) in caught.value.where and "text, labl" in caught.value.remedy


@pytest.mark.parametrize("settings", [{"id_column": "id"}, {"where": {"split": ("a",)}}])
def test_columns_of_ids_and_filters_are_needed_too(tmp_path: Path, settings: dict[str, Any]) -> None:
    (tmp_path / "a.csv").write_text("text,label\na,b\n", encoding="utf-8")
    check_columns(config(tmp_path / "a.csv"))
    with pytest.raises(SourceError, match="no column"):
        check_columns(config(tmp_path / "a.csv", **settings))


def test_an_empty_csv_has_no_columns(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no column 'text'"):
        read(tmp_path / "a.csv", "")


def test_a_missing_file_and_an_unknown_ending_are_told(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="does not exist") as caught:
        check_columns(config(tmp_path / "none.csv"))
    assert caught.value.where == str(tmp_path / "none.csv")
    (tmp_path / "a.xlsx").touch()
    with pytest.raises(SourceError, match=r"format of a \.xlsx file"):
        check_columns(config(tmp_path / "a.xlsx"))


def test_a_glob_finds_files_in_order_and_a_name_with_brackets_is_a_name(tmp_path: Path) -> None:
    folder = tmp_path / "data [2024]"
    folder.mkdir()
    (folder / "one.csv").touch()
    plain = config(folder / "one.csv").sources[0]
    assert [file.name for file in source_files(plain)] == ["one.csv"]  # type: ignore[arg-type]
    for name in ("b.csv", "a.csv", "c.jsonl"):
        (tmp_path / name).touch()
    (tmp_path / "d.csv").mkdir()
    assert [file.name for file in source_files(config(tmp_path / "*.csv").sources[0])] == ["a.csv", "b.csv"]  # type: ignore[arg-type]


def test_a_data_set_that_is_not_there_is_told_with_its_split(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"], "label": ["b"]}), tmp_path / "train.parquet")
    with pytest.raises(SourceError, match="cannot be loaded") as caught:
        list(read_records(config({"hub": str(tmp_path), "split": "nothing"})))
    assert "nothing" in caught.value.where
    with pytest.raises(SourceError, match="cannot be loaded"):
        list(read_records(config({"hub": str(tmp_path / "missing")})))
