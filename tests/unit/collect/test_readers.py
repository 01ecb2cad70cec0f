"""The readers of a recipe's sources, and the columns that the recipe names in them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.collect.config import CollectConfig
from tasks.collect.records import ReaderSettings
from tasks.collect.sources import check_columns, readers_of
from tasks.core.errors import SourceError

SETTINGS = ReaderSettings(Path("snapshots"), 1000)


def config(*sources: Path | dict[str, Any], **settings: Any) -> CollectConfig:
    named = [source if isinstance(source, dict) else {"path": str(source)} for source in sources]
    columns = {"message": "text", "queue": "label"}
    return CollectConfig.model_validate({"sources": named, "columns": columns, **settings})


def test_each_source_has_its_reader_in_the_recipes_order(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"text": name, "label": "x"}), encoding="utf-8")
    readers = readers_of(config(tmp_path / "b.jsonl", tmp_path / "a.jsonl"), SETTINGS)
    assert [(record.source, (record.values or {})["text"]) for reader in readers for record in reader.records()] == [
        ("b.jsonl", "b"),
        ("a.jsonl", "a"),
    ]


def test_where_columns_are_mapped_only_named_ones_are_read_and_judged(tmp_path: Path) -> None:
    """Bytes of an image in a column that nobody asked for do not cost the row."""
    table = pa.table({"text": ["a"], "label": ["b"], "image": [b"\xff"], "id": [7], "split": ["s"], "spdx": ["MIT"]})
    pq.write_table(table, tmp_path / "a.parquet")
    source = {"path": str(tmp_path / "a.parquet"), "licence_column": "spdx"}
    (mapped,) = readers_of(config(source, id_column="id", where={"split": ("s",)}), SETTINGS)
    (record,) = mapped.records()
    assert record.values == {"text": "a", "label": "b", "id": 7, "split": "s", "spdx": "MIT"}
    (detected,) = readers_of(config(source, columns={}), SETTINGS)
    (record,) = detected.records()
    assert record.values is None and "'image' holds bytes that are not UTF-8" in record.problem


def test_ids_and_filters_with_dots_are_handed_through(tmp_path: Path) -> None:
    row = {"text": "a", "label": "b", "meta": {"id": 7}, "about": {"team": "s"}, "rest": 1}
    (tmp_path / "a.jsonl").write_text(json.dumps(row), encoding="utf-8")
    (mapped,) = readers_of(config(tmp_path / "a.jsonl", id_column="meta.id", where={"about.team": ("s",)}), SETTINGS)
    (record,) = mapped.records()
    assert record.values == {name: value for name, value in row.items() if name != "rest"}


@pytest.mark.parametrize("kind", ["csv", "jsonl", "json", "parquet"])
def test_a_missing_column_is_told_with_the_file_and_the_columns_there_are(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    row = {"text": "a", "labl": "b"}
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist([row]), path)
    else:
        contents = {"csv": "text,labl\na,b\n", "jsonl": json.dumps(row), "json": json.dumps([row])}
        path.write_text(contents[kind], encoding="utf-8")
    with pytest.raises(SourceError, match="no column 'label'") as caught:
        check_columns(config(path), SETTINGS)
    assert caught.value.where == str(path) and "text, labl" in caught.value.remedy


@pytest.mark.parametrize(
    "settings", [{"id_column": "id"}, {"where": {"split": ("a",)}}, {"columns": {"message": "body.text"}}]
)
def test_columns_of_ids_filters_and_nested_values_are_needed_too(tmp_path: Path, settings: dict[str, Any]) -> None:
    (tmp_path / "a.csv").write_text("text,label\na,b\n", encoding="utf-8")
    check_columns(config(tmp_path / "a.csv"), SETTINGS)
    with pytest.raises(SourceError, match="no column"):
        check_columns(config(tmp_path / "a.csv", **settings), SETTINGS)


def test_of_a_nested_column_the_first_part_must_exist(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"turns": [{"text": "x"}]}\n', encoding="utf-8")
    check_columns(config(tmp_path / "a.jsonl", columns={"message": "turns.0.text"}), SETTINGS)
    with pytest.raises(SourceError, match=r"no column 'talk\.0\.text'"):
        check_columns(config(tmp_path / "a.jsonl", columns={"message": "talk.0.text"}), SETTINGS)


def test_a_column_that_only_a_later_object_has_is_found(tmp_path: Path) -> None:
    rows = [{"text": "a"}] * 50 + [{"text": "b", "label": "c"}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    check_columns(config(tmp_path / "a.jsonl"), SETTINGS)
    with pytest.raises(SourceError, match="no column 'topic'"):
        check_columns(config(tmp_path / "a.jsonl", columns={"text": "text", "topic": "topic"}), SETTINGS)


def test_an_empty_file_and_one_of_unreadable_rows_have_no_columns_to_check(tmp_path: Path) -> None:
    (tmp_path / "a.csv").touch()
    (tmp_path / "b.jsonl").write_text("half {\n", encoding="utf-8")
    check_columns(config(tmp_path / "a.csv", tmp_path / "b.jsonl"), SETTINGS)
    (tmp_path / "c.csv").write_text("other\nx\n", encoding="utf-8")
    with pytest.raises(SourceError, match=r"c\.csv"):
        check_columns(config(tmp_path / "a.csv", tmp_path / "b.jsonl", tmp_path / "c.csv"), SETTINGS)


def test_the_columns_of_a_folder_in_the_hubs_layout_are_checked(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "train.parquet")
    with pytest.raises(SourceError, match="no column 'label'"):
        check_columns(config({"hub": str(tmp_path)}), SETTINGS)


def test_reading_files_loads_no_library_of_remote_sources() -> None:
    code = """
import sys
from pathlib import Path
from tasks.collect.config import FileSource
from tasks.collect.records import ReaderSettings
from tasks.collect.sources import reader_of
reader_of(FileSource(path="a.csv"), ReaderSettings(Path("x"), 1))
print(sorted({"sqlalchemy", "httpx", "fsspec", "s3fs", "datasets", "huggingface_hub"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_source_of_passages_is_not_asked_for_the_recipes_columns(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,text,label\n1,x,y\n", encoding="utf-8")
    (tmp_path / "b.md").write_text("A passage.\n", encoding="utf-8")
    passages = {"path": str(tmp_path / "b.md"), "form": "text"}
    both = config(tmp_path / "a.csv", passages, id_column="id", where={"label": ["y"]})
    check_columns(both, SETTINGS)
    assert both.id_column_of(both.sources[1]) is None and both.where_of(both.sources[1]) == {}
    with pytest.raises(SourceError, match="no column") as caught:
        check_columns(config(tmp_path / "a.csv", tmp_path / "b.md", id_column="id"), SETTINGS)
    assert "form: text" in str(caught.value)
