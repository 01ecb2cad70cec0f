"""What columns of an Arrow table mean beyond their values: names of classes, JSON, and keys that a row does not have.

Arrow gives a struct all keys that any row of the column has, with null where a row has none. These keys are not the
row's: a tool's schema with ``"title": null`` would be learned. A null that was written as such cannot be told from
them, except in a map and in JSON. ``datasets`` stores the names of classes in the schema's metadata, and numbers in the
rows: https://huggingface.co/docs/datasets/about_dataset_features.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pyarrow as pa

from tasks.collect.records import Record
from tasks.collect.sources.row_values import Fit, Unfit
from tasks.core.json_text import strict_json

Read = Callable[[Any], Any]
ReadRow = Callable[[dict[str, Any]], dict[str, Any]]
METADATA = b"huggingface"
NO_CLASS = -1
"""The class of a row without a label, as in the test split of a competition."""


def row_reader(schema: pa.Schema, is_decoded: bool = False) -> ReadRow:
    """A function that reads the values of a row (``to_pylist``) as its columns mean them; it raises Unfit.

    ``is_decoded``: JSON columns hold values, not text, as ``datasets`` gives them.
    """
    told = _told(schema)
    found = {field.name: _reader(field.type, told.get(field.name), is_decoded) for field in schema}
    readers = {name: read for name, read in found.items() if read is not None}

    def read_row(values: dict[str, Any]) -> dict[str, Any]:
        return {name: readers[name](value) if name in readers else value for name, value in values.items()}

    return read_row


def read_record(source: str, line: int, values: dict[str, Any], read: ReadRow, fit: Fit) -> Record:
    """The record of a row; raises Unfit."""
    found = read(values)
    former = None if found == values else partial(fit.row, values)
    return Record(source, line, fit.row(found), former=former)


def without_filled_keys(value: Any) -> Any:
    """A value of unknown type without the keys whose value is null."""
    if isinstance(value, Mapping):
        return {key: without_filled_keys(item) for key, item in value.items() if item is not None}
    return [without_filled_keys(item) for item in value] if isinstance(value, list) else value


def _told(schema: pa.Schema) -> Mapping[str, Any]:
    try:
        told = json.loads((schema.metadata or {})[METADATA])["info"]["features"]
    except (KeyError, ValueError, TypeError):
        return {}
    return told if isinstance(told, Mapping) else {}


def _reader(kind: pa.DataType, told: Any, is_decoded: bool) -> Read | None:
    """How to read a value of this type, which ``datasets`` may describe; None: as it is."""
    if pa.types.is_dictionary(kind):
        return _reader(kind.value_type, told, is_decoded)
    feature = told.get("_type") if isinstance(told, Mapping) else None
    if feature == "Json" or isinstance(kind, pa.JsonType):
        return None if is_decoded else _optional(_json)
    if feature == "ClassLabel" and pa.types.is_integer(kind) and isinstance(told.get("names"), list):
        return _optional(_class_reader(told["names"]))
    if pa.types.is_map(kind):
        return _optional(_map_reader(_reader(kind.item_type, None, is_decoded) or _same))
    if pa.types.is_struct(kind):
        members = {one.name: _reader(one.type, _inside(told, one.name), is_decoded) or _same for one in kind.fields}
        return _optional(_struct_reader(members))
    if pa.types.is_nested(kind) and hasattr(kind, "value_type"):
        inner = told[0] if isinstance(told, list) and told else told.get("feature") if feature else None
        read = _reader(kind.value_type, inner, is_decoded)
        return None if read is None else _optional(_list_reader(read))
    return None


def _inside(told: Any, name: str) -> Any:
    """The description of a struct's member; ``Sequence`` describes a struct of lists as the sequence of a struct."""
    if not isinstance(told, Mapping):
        return None
    if "_type" not in told:
        return told.get(name)
    inner = told.get("feature")
    return {"_type": "List", "feature": inner.get(name)} if isinstance(inner, Mapping) else None


def _same(value: Any) -> Any:
    return value


def _optional(read: Read) -> Read:
    return lambda value: None if value is None else read(value)


def _json(value: Any) -> Any:
    try:
        return strict_json(value)
    except (ValueError, RecursionError) as error:
        raise Unfit(f"a JSON column holds unreadable JSON: {error}") from error


def _class_reader(names: list[str]) -> Read:
    def name_of(number: int) -> str | None:
        if number == NO_CLASS:
            return None
        if not 0 <= number < len(names):
            raise Unfit(f"the class {number} has no name: there are {len(names)}")
        return names[number]

    return name_of


def _map_reader(read: Read) -> Read:
    def read_map(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
        values = {key: read(value) for key, value in pairs}
        if len(values) != len(pairs):
            raise Unfit("a map has a key twice")
        return values

    return read_map


def _struct_reader(members: Mapping[str, Read]) -> Read:
    return lambda values: {name: members[name](value) for name, value in values.items() if value is not None}


def _list_reader(read: Read) -> Read:
    return lambda values: [read(value) for value in values]
