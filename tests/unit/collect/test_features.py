"""What Arrow and ``datasets`` put into values: keys of other rows, numbers for classes, JSON as text, maps as pairs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from tasks.collect.config import HubSource
from tasks.collect.records import ReaderSettings, Record
from tasks.collect.sources import read_file
from tasks.collect.sources.hub import HubReader

Read = Callable[[Path], list[Record]]


def from_file(folder: Path) -> list[Record]:
    return list(read_file(folder / "train.parquet", "parquet", name="a", max_field_bytes=10_000))


def from_hub(folder: Path) -> list[Record]:
    return list(HubReader(HubSource(hub=str(folder)), ReaderSettings(Path("none"), 10_000)).records())


@pytest.fixture(params=[from_file, from_hub])
def read(request: pytest.FixtureRequest) -> Read:
    chosen: Read = request.param
    return chosen


def stored(folder: Path, rows: list[Any], schema: pa.Schema | None = None) -> Path:
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / "train.parquet")
    return folder


def told(folder: Path, table: pa.Table, features: dict[str, Any]) -> Path:
    """A file with the metadata that ``datasets`` writes."""
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(table.replace_schema_metadata(metadata), folder / "train.parquet")
    return folder


def tool(name: str, **properties: str) -> dict[str, Any]:
    kinds = {key: {"type": kind} for key, kind in properties.items()}
    return {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": kinds}}}


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"role": "assistant", "tool_calls": [{"function": {"name": name, "arguments": arguments}}]}


def test_a_row_has_only_its_own_keys_in_tools_calls_and_turns(tmp_path: Path, read: Read) -> None:
    rows = [
        {"tools": [tool("dim", room="string")], "messages": [{"role": "user", "content": "Go"}, call("dim", room="a")]},
        {"tools": [tool("add", note="string", tags="array")], "messages": [call("add", note="b", tags=["x", None])]},
        {"tools": [], "messages": None},
    ]  # fmt: skip
    assert [record.values for record in read(stored(tmp_path, rows))] == rows


def test_a_call_without_arguments_keeps_its_empty_object_and_a_list_its_nulls(tmp_path: Path, read: Read) -> None:
    rows = [{"a": {"b": {"c": 1}, "d": [None, {"e": 1}]}}, {"a": {"b": {}, "d": [{"f": "x"}]}}]
    assert [record.values for record in read(stored(tmp_path, rows))] == rows


def test_a_column_of_a_row_stays_where_it_is_null(tmp_path: Path, read: Read) -> None:
    rows = [{"text": "a", "note": None}, {"text": None, "note": "b"}]
    assert [record.values for record in read(stored(tmp_path, rows))] == rows


def test_a_map_has_its_own_keys_and_the_nulls_that_were_written(tmp_path: Path) -> None:
    kind = pa.map_(pa.string(), pa.struct([("type", pa.string()), ("enum", pa.list_(pa.string()))]))
    schema = pa.schema([("properties", kind), ("flags", pa.map_(pa.string(), pa.int64()))])
    rows = [
        {"properties": [("a", {"type": "string", "enum": None})], "flags": [("x", 1), ("y", None)]},
        {"properties": [], "flags": None},
    ]
    assert [record.values for record in from_file(stored(tmp_path, rows, schema))] == [
        {"properties": {"a": {"type": "string"}}, "flags": {"x": 1, "y": None}},
        {"properties": {}, "flags": None},
    ]


def test_a_map_with_a_key_twice_costs_its_row(tmp_path: Path) -> None:
    schema = pa.schema([("flags", pa.map_(pa.string(), pa.int64()))])
    (record,) = from_file(stored(tmp_path, [{"flags": [("x", 1), ("x", 2)]}], schema))
    assert record.values is None and "a key twice" in record.problem


def test_a_null_in_json_was_written_and_stays(tmp_path: Path, read: Read) -> None:
    column = pa.array(['{"a": null, "b": [null]}', None], pa.json_())
    told(tmp_path, pa.table({"call": column}), {"call": {"_type": "Json"}})
    assert [record.values for record in read(tmp_path)] == [{"call": {"a": None, "b": [None]}}, {"call": None}]


def test_json_that_cannot_be_read_costs_its_row(tmp_path: Path) -> None:
    table = pa.table({"call": pa.array(['{"a": 1}', '{"a"'], pa.string())})
    good, bad = from_file(told(tmp_path, table, {"call": {"_type": "Json"}}))
    assert good.values == {"call": {"a": 1}} and "unreadable JSON" in bad.problem


TEAM = {"_type": "ClassLabel", "names": ["sales", "service", "billing"]}
TEXT = {"_type": "Value", "dtype": "string"}


def test_a_class_is_its_name_wherever_the_number_is(tmp_path: Path, read: Read) -> None:
    rows = [
        {"team": 1, "all": [0, 2], "deep": {"team": 2, "note": "x"}, "list": [{"team": 0}], "fixed": [1]},
        {"team": -1, "all": [], "deep": {"team": None, "note": "y"}, "list": None, "fixed": None},
        {"team": None, "all": None, "deep": None, "list": [], "fixed": [2]},
    ]
    features = {
        "team": TEAM,
        "all": {"_type": "List", "feature": TEAM},
        "deep": {"team": TEAM, "note": TEXT},
        "list": [{"team": TEAM}],
        "fixed": {"_type": "Sequence", "feature": TEAM},
    }
    found = [record.values for record in read(told(tmp_path, pa.Table.from_pylist(rows), features))]
    assert found == [
        {"team": "service", "all": ["sales", "billing"], "deep": {"team": "billing", "note": "x"},
         "list": [{"team": "sales"}], "fixed": ["service"]},
        {"team": None, "all": [], "deep": {"note": "y"}, "list": None, "fixed": None},
        {"team": None, "all": None, "deep": None, "list": [], "fixed": ["billing"]},
    ]  # fmt: skip


def test_classes_in_a_sequence_of_structs_and_in_a_dictionary_are_named(tmp_path: Path) -> None:
    rows = [{"turns": {"team": [0, 1]}, "coded": 2}]
    table = pa.Table.from_pylist(rows)
    coded = table["coded"].cast(pa.int8()).dictionary_encode()
    features = {"turns": {"_type": "Sequence", "feature": {"team": TEAM}}, "coded": TEAM}
    (record,) = from_file(told(tmp_path, table.set_column(1, "coded", coded), features))
    assert record.values == {"turns": {"team": ["sales", "service"]}, "coded": "billing"}


def test_a_class_without_a_name_costs_its_row(tmp_path: Path) -> None:
    good, bad = from_file(told(tmp_path, pa.table({"team": [2, 3]}), {"team": TEAM}))
    assert good.values == {"team": "billing"} and "the class 3 has no name" in bad.problem


@pytest.mark.parametrize(
    "metadata", [b"{", b"[]", b'{"info": {"features": []}}', b'{"info": {"features": {"team": 1}}}']
)
def test_metadata_of_another_shape_is_ignored(tmp_path: Path, metadata: bytes) -> None:
    table = pa.table({"team": [1]}).replace_schema_metadata({b"huggingface": metadata})
    pq.write_table(table, tmp_path / "train.parquet")
    assert [record.values for record in from_file(tmp_path)] == [{"team": 1}]


def test_the_names_of_classes_on_a_data_sets_card_are_used(tmp_path: Path) -> None:
    names = {str(number): name for number, name in enumerate(TEAM["names"])}
    features = [{"name": "letter", "dtype": "string"}, {"name": "team", "dtype": {"class_label": {"names": names}}}]
    card = yaml.safe_dump({"dataset_info": {"features": features}})
    (tmp_path / "README.md").write_text(f"---\n{card}---\n", encoding="utf-8")
    (tmp_path / "train.csv").write_text("letter,team\nx,2\ny,0\n", encoding="utf-8")
    assert [(record.values or {})["team"] for record in from_hub(tmp_path)] == ["billing", "sales"]
