"""The same documents have the same ids and the same holdout, whatever stores them, with and without a missing id."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tasks.collect.collect import CollectJob
from tasks.collect.config import CollectConfig
from tasks.core.config import ChatTask
from tasks.core.home import Home
from tasks.core.stage import StageContext
from tests.postgres import PASSWORD, Postgres, postgres

Ids = Sequence[int | None]
Store = Callable[[Path, Ids], dict[str, Any]]
"""Writes the documents with these ids; returns the source of a recipe."""
IDS = st.lists(st.integers(-50, 10_000) | st.integers(1 - 2**53, 2**53 - 1), min_size=4, max_size=12, unique=True)


def texts(ids: Ids) -> list[str]:
    return [f"text of {one}" for one in ids]


def csv(pattern: str) -> Store:
    def store(folder: Path, ids: Ids) -> dict[str, Any]:
        rows = [("" if one is None else pattern.format(one), text) for one, text in zip(ids, texts(ids), strict=True)]
        (folder / "a.csv").write_text(
            "id,text\n" + "".join(f"{name},{text}\n" for name, text in rows), encoding="utf-8"
        )
        return {"path": str(folder / "a.csv")}

    return store


def json_lines(kind: Callable[[int], Any]) -> Store:
    def store(folder: Path, ids: Ids) -> dict[str, Any]:
        rows = [
            {"id": None if one is None else kind(one), "text": text} for one, text in zip(ids, texts(ids), strict=True)
        ]
        (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return {"path": str(folder / "a.jsonl")}

    return store


def parquet(kind: pa.DataType) -> Store:
    def store(folder: Path, ids: Ids) -> dict[str, Any]:
        is_coded = pa.types.is_dictionary(kind)
        values = pa.array(ids, pa.int64()).cast(kind.value_type if is_coded else kind)
        column = values.dictionary_encode() if is_coded else values
        pq.write_table(pa.table({"id": column, "text": texts(ids)}), folder / "a.parquet")
        return {"path": str(folder / "a.parquet")}

    return store


def pandas(kind: str, ending: str) -> Store:
    """As pandas writes: without a kind, a missing id turns the others into floats."""

    def store(folder: Path, ids: Ids) -> dict[str, Any]:
        frame = pd.DataFrame({"id": pd.Series(list(ids)), "text": texts(ids)}).astype({"id": kind} if kind else {})
        path = folder / f"a.{ending}"
        frame.to_parquet(path) if ending == "parquet" else frame.to_csv(path)
        return {"path": str(path)}

    return store


def sqlite(kind: str) -> Store:
    def store(folder: Path, ids: Ids) -> dict[str, Any]:
        connection = sqlite3.connect(folder / "a.db")
        connection.execute(f"CREATE TABLE t (id {kind}, text TEXT)")
        connection.executemany("INSERT INTO t VALUES (?, ?)", zip(ids, texts(ids), strict=True))
        connection.commit()
        connection.close()
        return {"sql": f"sqlite:///{folder / 'a.db'}", "query": "SELECT * FROM t"}

    return store


STORES: dict[str, Store] = {
    "csv": csv("{}"),
    "csv, floats": csv("{}.0"),
    "csv, decimals": csv("{}.00"),
    "json, integers": json_lines(int),
    "json, floats": json_lines(float),
    "json, text": json_lines(str),
    "parquet, integers": parquet(pa.int64()),
    "parquet, doubles": parquet(pa.float64()),
    "parquet, text": parquet(pa.string()),
    "parquet, dictionary of text": parquet(pa.dictionary(pa.int32(), pa.string())),
    "parquet, dictionary of integers": parquet(pa.dictionary(pa.int32(), pa.int64())),
    "parquet, decimals": parquet(pa.decimal128(21, 2)),
    "pandas, parquet": pandas("", "parquet"),
    "pandas, nullable": pandas("Int64", "parquet"),
    "pandas, csv": pandas("", "csv"),
    "sqlite, integers": sqlite("INTEGER"),
    "sqlite, reals": sqlite("REAL"),
    "sqlite, text": sqlite("TEXT"),
}


def sides(folder: Path, source: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """By text, the id and the split of each document."""
    config = {"sources": [source], "columns": {"text": "text"}, "id_column": "id", "holdout_fraction": 0.4}
    job = CollectJob(CollectConfig.model_validate(config), ChatTask(), (), "r", Home(folder / "home"))
    job.fetch()
    (folder / "out").mkdir()
    job.fill(folder / "out", StageContext(job.home, "r", job.key().hex))
    return {
        row["text"]: (row["document_id"], split)
        for split in ("train", "holdout")
        for row in pq.read_table(folder / "out" / f"{split}.parquet").to_pylist()
    }


def collected(store: Store, ids: Ids) -> dict[str, tuple[str, str]]:
    with tempfile.TemporaryDirectory() as folder:
        return sides(Path(folder), store(Path(folder), ids))


@given(IDS, st.integers(0, 3))
@settings(max_examples=3, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
def test_a_document_has_one_id_and_one_side_in_every_store_with_and_without_a_gap(ids: list[int], gap: int) -> None:
    expected = collected(STORES["json, integers"], ids)
    assert {name for name, _ in expected.values()} == {str(one) for one in ids}
    for name, store in STORES.items():
        assert collected(store, ids) == expected, name
        assert collected(store, [*ids[:gap], None, *ids[gap:]]) == expected, f"{name}, with a gap"


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres() as running:
        yield running


@pytest.mark.parametrize("kind", ["bigint", "numeric", "numeric(20, 2)", "double precision", "text"])
def test_postgresql_gives_the_same_ids_and_sides(
    tmp_path: Path, server: Postgres, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setenv("SHOP_PASSWORD", PASSWORD)
    ids: Ids = [0, 7, -3, None, 10_000, 2**53 - 1, *range(20, 40)]
    rows = ", ".join(f"({'NULL' if one is None else one}, '{text}')" for one, text in zip(ids, texts(ids), strict=True))
    server.execute("DROP TABLE IF EXISTS t", f"CREATE TABLE t (id {kind}, text text)", f"INSERT INTO t VALUES {rows}")
    found = sides(tmp_path, {"sql": server.url, "query": "SELECT * FROM t"})
    assert found == collected(STORES["json, integers"], [one for one in ids if one is not None])


def test_times_and_truth_values_have_one_spelling_in_every_store(tmp_path: Path) -> None:
    moments = pd.to_datetime(["2026-03-04 05:06:07", "2026-03-05 00:00:00", "2026-03-06 01:02:03.5"], format="ISO8601")
    names = {"2026-03-04T05:06:07", "2026-03-05", "2026-03-06T01:02:03.500000"}
    frame = pd.DataFrame({"id": moments, "text": ["a", "b", "c"]})
    frame.to_parquet(tmp_path / "a.parquet")
    frame.to_csv(tmp_path / "a.csv", index=False)
    with sqlite3.connect(tmp_path / "a.db") as connection:
        frame.to_sql("t", connection, index=False)
    sources: list[dict[str, Any]] = [
        {"path": str(tmp_path / "a.parquet")},
        {"path": str(tmp_path / "a.csv")},
        {"sql": f"sqlite:///{tmp_path / 'a.db'}", "query": "SELECT * FROM t"},
    ]
    for number, source in enumerate(sources):
        (tmp_path / str(number)).mkdir()
        assert {name for name, _ in sides(tmp_path / str(number), source).values()} == names
