"""Reading rows of both origins into one table, what a contract sees of it, and the training set."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.core.messages import MESSAGES
from tasks.validate import rows as rows_module
from tasks.validate.contracts.columns import contract_columns, document_columns
from tasks.validate.conversations import CONVERSATION
from tasks.validate.rows import (
    batches_of,
    contract_view,
    prompts_of,
    raw_texts,
    read_answers,
    read_documents,
    read_rows,
    read_training_set,
    write_training_set,
)
from tests.unit.validate.tables import (
    COLLECTED_COLUMNS,
    FIELDS,
    GENERATED_COLUMNS,
    document,
    write_table,
    written,
)


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    """Two conversations, not in the order of their ids, and a passage."""
    passage = {**document("p", "a passage on cards", None), "messages": None}
    rows = [document("d2", "freeze my card"), passage, {**document("d1", "我的卡丢了"), "source": "other.csv"}]
    write_table(tmp_path / "train.parquet", rows, COLLECTED_COLUMNS)
    return tmp_path / "train.parquet"


@pytest.fixture
def generated(tmp_path: Path) -> Path:
    rows = [
        {**written("r2", "a table for four"), "document_id": "p"},
        {**written(None, "hello"), "document_id": "gone"},
        written("r1", None, "dining"),
    ]
    write_table(tmp_path / "rows.parquet", rows, GENERATED_COLUMNS)
    return tmp_path / "rows.parquet"


def test_collected_rows_come_first_and_each_origin_is_ordered_by_id(documents: Path, generated: Path) -> None:
    rows = read_rows(documents, generated, FIELDS)
    assert rows["row_id"].to_pylist() == ["d1", "d2", "r1", "r2", None]
    assert rows["origin"].to_pylist() == ["collected"] * 2 + ["generated"] * 3
    assert rows["user_text"].to_pylist() == ["我的卡丢了", "freeze my card", "", "a table for four", "hello"]
    assert rows["assistant_text"].to_pylist() == ["cards", "cards", "dining", "cards", "cards"]
    assert rows["seed"].to_pylist() == [None, None, 7, 7, 7]
    assert set(contract_columns(FIELDS)) <= set(rows.column_names)
    assert rows["messages"].type == CONVERSATION


def test_a_generated_row_has_its_document_s_source(documents: Path, generated: Path) -> None:
    rows = read_rows(documents, generated, FIELDS)
    assert rows["source"].to_pylist() == ["other.csv", "s.csv", "other.csv", "s.csv", None]
    without = read_rows(documents, generated, FIELDS, include_collected=False)
    assert without["source"].to_pylist() == ["other.csv", "s.csv", None]


def test_without_either_there_is_an_empty_table_of_the_same_shape(documents: Path, generated: Path) -> None:
    nothing = read_rows(documents, None, FIELDS, include_collected=False)
    assert nothing.schema == read_rows(documents, generated, FIELDS).schema and nothing.num_rows == 0


def test_columns_of_other_types_become_text_and_missing_ones_null(tmp_path: Path, documents: Path) -> None:
    table = pa.table(
        {
            "row_id": [1, 2],
            "message": [1.5, None],
            "queue": [["a", "b"], None],
            "seed": ["7", "x"],
            "prompt": pa.array(["write", None]).dictionary_encode(),
            "raw": pa.array([b"\xff", b"ok"]),
        }
    )
    pq.write_table(table, tmp_path / "odd.parquet")
    rows = read_rows(documents, tmp_path / "odd.parquet", (*FIELDS, "topic"), include_collected=False)
    assert rows["row_id"].to_pylist() == ["1", "2"]
    assert rows["message"].to_pylist() == ["1.5", None]
    assert rows["queue"].to_pylist() == ['["a","b"]', None]
    assert rows["prompt"].to_pylist() == ["write", None]
    assert rows["seed"].to_pylist() == rows["topic"].to_pylist() == rows["user_text"].to_pylist() == [None, None]
    assert rows["raw"].to_pylist()[1] is not None


def test_documents_keep_their_order_and_say_nothing_where_they_are_no_conversation(documents: Path) -> None:
    found = read_documents(documents, FIELDS)
    assert set(document_columns(FIELDS)) <= set(found.column_names)
    assert found["document_id"].to_pylist() == ["d2", "p", "d1"]
    assert found["user_text"].to_pylist() == ["freeze my card", None, "我的卡丢了"]
    assert found["line"].to_pylist() == [1, 1, 1]
    assert read_answers(documents) == {"cards"}


def test_a_contract_sees_conversations_as_json_and_only_what_it_names(documents: Path) -> None:
    seen = contract_view(read_documents(documents, FIELDS), ("messages", "source", "messages", "nowhere"))
    assert seen.column_names == ["messages", "source"]
    first = '[{"content":"freeze my card","role":"user"},{"content":"cards","role":"assistant"}]'
    assert seen["messages"].to_pylist()[:2] == [first, None]
    assert contract_view(seen, seen.column_names) == seen, "a view can be looked at again"


def test_the_raw_text_of_a_collected_row_is_its_conversation(documents: Path, generated: Path) -> None:
    raw = raw_texts(read_rows(documents, generated, FIELDS)).to_pylist()
    assert raw[1] == '[{"content":"freeze my card","role":"user"},{"content":"cards","role":"assistant"}]'
    assert raw[2:] == [None, "a table for four", "hello"]


def test_prompts_are_told_apart_from_collected_rows(documents: Path, generated: Path) -> None:
    rows = read_rows(documents, generated, FIELDS)
    rows = rows.set_column(rows.column_names.index("prompt"), "prompt", [["x", None, "write", None, "vary"]])
    assert prompts_of(rows).to_pylist() == ["(collected)", "(collected)", "write", "(unknown)", "vary"]


def test_a_training_set_is_read_as_it_was_written(documents: Path, generated: Path, tmp_path: Path) -> None:
    rows = read_rows(documents, generated, FIELDS)
    path = tmp_path / "training_set.parquet"
    write_training_set(path, rows, FIELDS)
    stored = pq.read_table(path)
    assert stored.schema.field("messages").type == MESSAGES
    assert stored["example_id"].to_pylist() == ["d1", "d2", "r1", "r2", ""]
    assert stored["teacher"].to_pylist() == ["", "", "seedling", "seedling", "seedling"]
    assert stored["seed"].to_pylist() == [0, 0, 7, 7, 7]
    assert stored["message"].to_pylist() == ["我的卡丢了", "freeze my card", None, "a table for four", "hello"]
    again = read_training_set(path, FIELDS)
    assert set(contract_columns(FIELDS)) <= set(again.column_names)
    for name in (*FIELDS, "messages", "user_text", "assistant_text", "origin", "document_id"):
        assert again[name].to_pylist() == rows[name].to_pylist()


def test_batches_hold_no_more_than_so_many_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "BATCH_BYTES", 300)
    table = pa.table({"text": ["x" * 100] * 5 + ["y" * 1_000]})
    sizes = [batch.num_rows for batch in batches_of(table)]
    assert sizes == [1, 2, 1, 1, 1] and sum(sizes) == 6


def test_a_field_of_a_million_characters_is_a_field(tmp_path: Path, documents: Path) -> None:
    write_table(tmp_path / "rows.parquet", [written("r1", "x" * 1_000_000)], GENERATED_COLUMNS)
    rows = read_rows(documents, tmp_path / "rows.parquet", FIELDS, include_collected=False)
    assert len(rows["user_text"][0].as_py()) == 1_000_000
    assert contract_view(rows, ("messages",))["messages"][0].as_py().count("x") == 1_000_000
