"""Tables that a JSON file holds by column are read as tables; ragged ones are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tasks.collect.records import Record
from tasks.collect.sources import json_document
from tasks.collect.sources.formats import columns_in, read_file
from tasks.core.errors import SourceError

FRAME = pd.DataFrame({"letter": ["The lift is stuck.", "Send the bill."], "team": ["service", None]})
TURN = {"role": "user", "content": "a"}
ROWS: list[dict[str, Any]] = [
    {"letter": "The lift is stuck.", "team": "service"},
    {"letter": "Send the bill.", "team": None},
]


def records(folder: Path, content: str) -> list[Record]:
    path = folder / "a.json"
    path.write_text(content, encoding="utf-8")
    return list(read_file(path, "json", name="a.json", max_field_bytes=1000))


def read(folder: Path, content: Any) -> list[Any]:
    text = content if isinstance(content, str) else json.dumps(content)
    return [record.values for record in records(folder, text)]


@pytest.mark.parametrize("orient", ["columns", "index", "split", "records"])
def test_every_orient_of_pandas_gives_the_same_rows(tmp_path: Path, orient: Any) -> None:
    text = FRAME.to_json(orient=orient)
    assert read(tmp_path, text) == ROWS
    assert columns_in(tmp_path / "a.json", "json", 1000) == ["letter", "team"]
    lines = [record.line for record in records(tmp_path, text)]
    assert lines == ([1, 1] if orient == "records" else [1, 2])


def test_pandas_tables_with_an_index_are_read(tmp_path: Path) -> None:
    assert read(tmp_path, FRAME.to_json(orient="table")) == [{"index": n, **row} for n, row in enumerate(ROWS)]
    tight: dict[Any, Any] = FRAME.astype(object).where(FRAME.notna(), None).to_dict(orient="tight")
    assert read(tmp_path, {**tight, "index": list(tight["index"])}) == ROWS
    assert read(tmp_path, FRAME[1:].to_json()) == ROWS[1:]
    assert read(tmp_path, FRAME[["letter"]].to_json()) == [{"letter": row["letter"]} for row in ROWS]


@pytest.mark.parametrize(
    ("document", "rows"),
    [
        ({"q": ["a", "b"], "r": ["c", "d"]}, [{"q": "a", "r": "c"}, {"q": "b", "r": "d"}]),
        ({"text": ["a", "b"]}, [{"text": "a"}, {"text": "b"}]),
        ({"text": []}, []),
        ({"q": ["a"], "answers": [{"text": ["b"]}]}, [{"q": "a", "answers": {"text": ["b"]}}]),
        ({"messages": [[TURN]], "id": [7]}, [{"messages": [TURN], "id": 7}]),
        ({"0": {"0": "a", "1": "b"}, "1": {"0": "c", "1": "d"}}, [{"0": "a", "1": "c"}, {"0": "b", "1": "d"}]),
    ],
    ids=["lists", "one column", "no rows", "objects in a column", "conversations", "unnamed columns"],
)  # fmt: skip
def test_lists_and_numbered_objects_are_columns(tmp_path: Path, document: Any, rows: list[Any]) -> None:
    assert read(tmp_path, document) == rows


@pytest.mark.parametrize(
    "document",
    [
        {"text": "a", "tags": ["b", "c"]},
        {"messages": [TURN], "tools": []},
        {"input": {"a": 1}, "output": {"a": 2}},
        {"meta": {}},
        {},
    ],
    ids=["a scalar", "a conversation", "objects with names", "an empty object", "nothing"],
)
def test_other_objects_are_one_row(tmp_path: Path, document: Any) -> None:
    assert read(tmp_path, document) == [document]


def test_a_list_of_rows_beside_lists_of_other_length_is_still_the_rows(tmp_path: Path) -> None:
    assert read(tmp_path, {"data": [{"text": "a"}, {"text": "b"}], "warnings": ["c"]}) == [{"text": "a"}, {"text": "b"}]


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"letter": ["a", "b"], "team": ["c"]}, "'letter' and 'team' differ in length: 2 and 1"),
        ({"letter": {"0": "a", "1": "b"}, "team": {"0": "c"}}, "'letter' and 'team' differ in length: 2 and 1"),
        ({"letter": {"0": "a"}, "team": {"1": "c"}}, "'letter' and 'team' differ in row numbers"),
        ({"columns": ["letter", "team"], "data": [["a"]]}, "'columns' and 'row 1' differ in length: 2 and 1"),
    ],
)  # fmt: skip
def test_ragged_columns_are_refused_by_name(tmp_path: Path, document: Any, said: str) -> None:
    with pytest.raises(SourceError, match=said) as caught:
        read(tmp_path, document)
    assert caught.value.where.endswith("a.json") and "orient='records'" in caught.value.remedy


def test_a_table_is_limited_in_size_and_a_broken_one_is_one_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (broken,) = records(tmp_path, '{"text": ["a", "b"')
    assert broken.values is None and "unreadable JSON" in broken.problem
    (twice,) = records(tmp_path, '{"text": ["a"], "text": ["b"]}')
    assert twice.values is None and "appears twice" in twice.problem
    long, fine = records(tmp_path, json.dumps({"text": ["a" * 1001, "b"]}))
    assert (long.values, long.line, fine.values) == (None, 1, {"text": "b"})
    monkeypatch.setattr(json_document, "LARGEST_TABLE", 20)
    with pytest.raises(SourceError, match="more than 20 bytes"):
        read(tmp_path, {"text": ["a", "b", "c", "d"]})
