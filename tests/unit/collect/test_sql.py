"""SQL sources: PostgreSQL and SQLite as they are, read once, read on, and refused."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.collect.config import SqlSource
from tasks.collect.records import ReaderSettings, Record
from tasks.collect.sources.databases import without_password
from tasks.collect.sources.sql import SqlReader
from tasks.collect.sources.watermarks import Watermark
from tasks.core.errors import SourceError, SourceUnavailable
from tests.postgres import DATABASE, PASSWORD, Postgres, postgres

TICKETS = "CREATE TABLE tickets (id int, body text, at timestamptz)"
MANY = 5_000


@pytest.fixture(scope="module")
def running() -> Iterator[Postgres]:
    with postgres() as server:
        yield server


@pytest.fixture
def shop(running: Postgres, monkeypatch: pytest.MonkeyPatch) -> Postgres:
    """A server with an empty database, whose password is in the environment."""
    monkeypatch.setenv("SHOP_PASSWORD", PASSWORD)
    running.execute("DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
    return running


class Desk:
    """A SQLite file with a table of tickets."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "desk.db"
        self.url = f"sqlite:///{self.file}"

    def execute(self, *statements: str) -> None:
        connection = sqlite3.connect(self.file)
        for statement in statements:
            connection.execute(statement)
        connection.commit()
        connection.close()


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    desk = Desk(tmp_path)
    desk.execute("CREATE TABLE tickets (id, body, at)")
    return desk


def reader(where: Postgres | Desk, folder: Path, query: str = "SELECT * FROM tickets", **settings: Any) -> SqlReader:
    source = SqlSource.model_validate({"sql": where.url, "query": query, **settings})
    return SqlReader(source, ReaderSettings(folder / "snapshots", 10_000))


def fetched(one: SqlReader) -> list[Record]:
    one.fetch()
    return list(one.records())


def bodies(records: list[Record]) -> list[Any]:
    return [(record.values or {}).get("body") for record in records]


def test_postgres_values_of_every_kind_come_as_plain_values(shop: Postgres, tmp_path: Path) -> None:
    shop.execute(
        "CREATE TABLE tickets"
        " (n numeric, at timestamptz, d date, j jsonb, u uuid, b bytea, a text[], f float8, t bool)",
        "INSERT INTO tickets VALUES"
        " (1.50, '2026-01-01 10:00+02', '2026-01-01', '{\"turns\": [{\"role\": \"user\"}, null]}',"
        " '6f2ad3a4-4d2b-4c5e-9a52-0d6c1c1d2e3f', 'caf\\303\\251', ARRAY['x', NULL], 0.5, true)",
    )
    assert fetched(reader(shop, tmp_path))[0].values == {
        "n": "1.50",
        "at": "2026-01-01 08:00:00+00",
        "d": "2026-01-01",
        "j": {"turns": [{"role": "user"}, None]},
        "u": "6f2ad3a4-4d2b-4c5e-9a52-0d6c1c1d2e3f",
        "b": "café",
        "a": ["x", None],
        "f": 0.5,
        "t": True,
    }


def test_postgres_values_that_python_cannot_hold_do_not_stop_the_others(shop: Postgres, tmp_path: Path) -> None:
    shop.execute(
        "CREATE TABLE tickets (body text, d date, at timestamp, f float8, b bytea)",
        "INSERT INTO tickets VALUES ('good', now(), now(), 1, ''), ('old', '0044-03-15 BC', 'infinity', 1, ''),"
        " ('no number', now(), now(), 'NaN', ''), ('no text', now(), now(), 1, '\\x89504e47')",
    )
    records = fetched(reader(shop, tmp_path))
    assert [bool(record.values) for record in records] == [True, True, False, False]
    assert records[1].values is not None
    assert (records[1].values["d"], records[1].values["at"]) == ("0044-03-15 BC", "infinity")
    assert "NaN" in records[2].problem and "no number" in records[2].raw
    assert "byte 0x89" in records[3].problem and records[3].line == 4


def test_the_second_night_reads_only_rows_at_or_above_the_watermark(shop: Postgres, tmp_path: Path) -> None:
    shop.execute(TICKETS, f"INSERT INTO tickets SELECT n, 'no. ' || n, now() FROM generate_series(1, {MANY}) AS n")
    shop.execute("UPDATE tickets SET at = timestamptz '2026-01-01' + make_interval(mins => id)")
    one = reader(shop, tmp_path, watermark="at")
    assert len(fetched(one)) == MANY and one.fetched == {"rows": MANY, "new_rows": MANY}
    first = dict(one.digests())

    again = reader(shop, tmp_path, watermark="at")
    again.fetch()
    assert again.fetched == {"rows": 1, "new_rows": 0} and again.digests() == first

    shop.execute("INSERT INTO tickets SELECT n, 'new', '2027-01-01' FROM generate_series(9001, 9003) AS n")
    later = reader(shop, tmp_path, watermark="at")
    assert bodies(fetched(later))[MANY:] == ["new"] * 3
    assert later.fetched == {"rows": 4, "new_rows": 3}
    assert later.digests().items() > first.items() and len(later.digests()) == 2


@pytest.mark.parametrize("database", ["shop", "desk"])
def test_a_row_that_ties_with_the_last_watermark_is_not_lost_and_not_doubled(
    database: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    where = request.getfixturevalue(database)
    if isinstance(where, Postgres):
        where.execute(TICKETS)
    where.execute("INSERT INTO tickets VALUES (1, 'one', '2026-01-01'), (2, 'two', '2026-01-01')")
    one = reader(where, tmp_path, watermark="at")
    one.fetch()
    where.execute("INSERT INTO tickets VALUES (3, 'three', '2026-01-01')")
    assert sorted(bodies(fetched(one))) == ["one", "three", "two"]
    assert one.fetched == {"rows": 3, "new_rows": 1}
    one.fetch()
    assert one.fetched == {"rows": 3, "new_rows": 0}


@pytest.mark.parametrize("database", ["shop", "desk"])
def test_a_changed_row_comes_again_with_a_greater_version(
    database: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    where = request.getfixturevalue(database)
    if isinstance(where, Postgres):
        where.execute(TICKETS)
    where.execute("INSERT INTO tickets VALUES (1, 'one', '2026-01-01'), (2, 'two', '2026-01-02')")
    one = reader(where, tmp_path, watermark="at")
    one.fetch()
    where.execute("UPDATE tickets SET body = 'changed', at = '2026-01-03' WHERE id = 1")
    records = fetched(one)
    assert [(record.line, record.version) for record in records] == [(1, 1), (2, 1), (3, 2)]
    assert bodies(records) == ["one", "two", "changed"]


@pytest.mark.parametrize("database", ["shop", "desk"])
def test_rows_without_a_watermark_are_read_whenever_they_appear_and_once(
    database: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    where = request.getfixturevalue(database)
    if isinstance(where, Postgres):
        where.execute(TICKETS)
    one = reader(where, tmp_path, watermark="at")
    where.execute("INSERT INTO tickets VALUES (1, 'null', NULL)")
    assert [bodies(fetched(one)), bodies(fetched(one))] == [["null"], ["null"]]
    where.execute("INSERT INTO tickets VALUES (2, 'dated', '2026-01-01')")
    one.fetch()
    where.execute("INSERT INTO tickets VALUES (3, 'late null', NULL)")
    assert bodies(fetched(one)) == ["null", "dated", "late null"]
    assert one.fetched == {"rows": 3, "new_rows": 1}


def test_a_number_as_a_watermark_is_compared_as_a_number(desk: Desk, tmp_path: Path) -> None:
    desk.execute("INSERT INTO tickets VALUES (1, 'one', 9), (2, 'two', 10)")
    one = reader(desk, tmp_path, watermark="at")
    one.fetch()
    desk.execute("INSERT INTO tickets VALUES (3, 'three', 10.5), (4, 'four', 100)")
    assert bodies(fetched(one)) == ["one", "two", "three", "four"] and one.fetched["rows"] == 3


def test_without_a_watermark_an_unchanged_table_keeps_its_digest_and_a_changed_one_is_read_whole(
    desk: Desk, tmp_path: Path
) -> None:
    desk.execute("INSERT INTO tickets VALUES (1, 'one', 1)")
    one = reader(desk, tmp_path)
    one.fetch()
    first = dict(one.digests())
    one.fetch()
    assert one.digests() == first
    desk.execute("DELETE FROM tickets", "INSERT INTO tickets VALUES (2, 'two', 2)")
    assert bodies(fetched(one)) == ["two"] and one.digests() != first


@pytest.mark.parametrize("watermark", [None, "at"])
@pytest.mark.parametrize("database", ["shop", "desk"])
def test_a_vanished_table_is_an_error_and_the_snapshot_stays(
    database: str, watermark: str | None, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    where = request.getfixturevalue(database)
    if isinstance(where, Postgres):
        where.execute(TICKETS)
    where.execute("INSERT INTO tickets VALUES (1, 'one', '2026-01-01')")
    one = reader(where, tmp_path, watermark=watermark)
    one.fetch()
    where.execute("DROP TABLE tickets")
    with pytest.raises(SourceError, match="tickets") as caught:
        one.fetch()
    assert not caught.value.retryable and "kept" in caught.value.remedy
    assert bodies(list(one.records())) == ["one"]


def test_an_emptied_table_with_a_watermark_takes_nothing_back(desk: Desk, tmp_path: Path) -> None:
    desk.execute("INSERT INTO tickets VALUES (1, 'one', 1)")
    one = reader(desk, tmp_path, watermark="at")
    one.fetch()
    desk.execute("DELETE FROM tickets")
    one.fetch()
    desk.execute("INSERT INTO tickets VALUES (2, 'two', 2)")
    assert bodies(fetched(one)) == ["one", "two"]


@pytest.mark.parametrize(
    ("query", "watermark", "said"),
    [
        ("SELECT nope FROM tickets", None, "nope"),
        ("SELECT id FROM tickets", "at", '"at" does not exist'),
        ("SELECT id, id FROM tickets", None, "two columns named 'id'"),
        ("SELECT 1 AS x; DROP TABLE tickets", None, "multiple commands"),
        ("SELECT 1 AS at; DROP TABLE tickets", "at", "syntax error"),
        ("WITH gone AS (DELETE FROM tickets RETURNING *) SELECT * FROM gone", None, "data-modifying"),
        ("SELECT setval('numbers', 7)", None, "read-only transaction"),
        ("DELETE FROM tickets", None, "not a SELECT"),
        ("SELECT 1 / 0", None, "division by zero"),
        ("SELECT 'infinity'::timestamptz AS at", "at", "no value can follow"),
        ("SELECT true AS at", "at", "bool cannot be a watermark"),
    ],
)
def test_postgres_refuses_what_makes_no_sense_or_would_write(
    shop: Postgres, tmp_path: Path, query: str, watermark: str | None, said: str
) -> None:
    shop.execute(TICKETS, "CREATE SEQUENCE numbers", "INSERT INTO tickets VALUES (1, 'one', '2026-01-01')")
    with pytest.raises(SourceError, match=said) as caught:
        reader(shop, tmp_path, query, watermark=watermark).fetch()
    assert not caught.value.retryable and caught.value.remedy
    assert bodies(fetched(reader(shop, tmp_path))) == ["one"]


def test_a_query_may_hold_comments_casts_percents_and_a_semicolon(shop: Postgres, tmp_path: Path) -> None:
    shop.execute(TICKETS, "INSERT INTO tickets VALUES (1, '50% off: now', '2026-01-01')")
    query = (
        "-- tickets\n/* of :today */ SELECT body, id::text AS no, ':x' AS x FROM tickets WHERE body LIKE '%\\% off%'; "
    )
    for watermark in (None, "no"):
        values = {"body": "50% off: now", "no": "1", "x": ":x"}
        assert [record.values for record in fetched(reader(shop, tmp_path, query, watermark=watermark))] == [values]
    assert reader(shop, tmp_path, query).name == "tickets"
    assert len(fetched(reader(shop, tmp_path, "SELECT * FROM tickets -- all of them", watermark="at"))) == 1


def test_a_moment_is_the_same_text_whatever_the_server_is_set_to(shop: Postgres, tmp_path: Path) -> None:
    shop.execute(TICKETS, "INSERT INTO tickets VALUES (1, 'one', '2026-01-31 12:00+00')")
    one = reader(shop, tmp_path)
    one.fetch()
    first = dict(one.digests())
    shop.execute(f"ALTER DATABASE {DATABASE} SET timezone = 'Asia/Tokyo'")
    shop.execute(f"ALTER DATABASE {DATABASE} SET datestyle = 'German'")
    try:
        one.fetch()
    finally:
        shop.execute(f"ALTER DATABASE {DATABASE} RESET ALL")
    assert one.digests() == first


def test_a_wrong_password_is_an_error_that_does_not_show_it(
    shop: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_PASSWORD", "open sesame")
    with pytest.raises(SourceError, match="password authentication failed") as caught:
        reader(shop, tmp_path).fetch()
    assert not caught.value.retryable and "sesame" not in str(caught.value)
    written = reader(shop, tmp_path, sql=shop.url.replace("${SHOP_PASSWORD}", "open-sesame"))
    with pytest.raises(SourceError) as caught:
        written.fetch()
    assert "sesame" not in str(caught.value) and "***@127.0.0.1" in caught.value.where


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("postgresql://ann:hun/ter@h/db", "postgresql://ann:***@h/db"),
        ("postgresql://ann:hun@ter/x@h/db", "postgresql://ann:***@h/db"),
        ("postgresql://ann:hun?ter@h/db", "postgresql://ann:***@h/db"),
        ("postgresql://ann:hunter@h/db?a=b@c", "postgresql://ann:***@h/db?a=b@c"),
        ("postgresql://ann@h/db?a=b", "postgresql://ann@h/db?a=b"),
        ("postgresql://h/db?user=ann&password=hunter&a=b", "postgresql://h/db?user=ann&password=***&a=b"),
        ("postgresql://h/db?sslPassword=hunter", "postgresql://h/db?sslPassword=***"),
        ("sqlite:////data/a@b:c/desk.db", "sqlite:////data/a@b:c/desk.db"),
    ],
)
def test_a_url_is_shown_without_its_password(tmp_path: Path, written: str, shown: str) -> None:
    assert without_password(written) == shown
    source = SqlSource(sql=written.replace("://", "-no-such-driver://"), query="SELECT 1")
    with pytest.raises(SourceError) as caught:
        SqlReader(source, ReaderSettings(tmp_path, 100)).check()
    assert "hun" not in str(caught.value) and "ter" not in caught.value.where


def test_the_user_but_not_the_password_tells_one_source_from_another(tmp_path: Path) -> None:
    users = ("ann:one", "ann:two", "bob:one", "ann:${SHOP_PASSWORD}")
    for user in users:
        one = SqlReader(SqlSource(sql=f"postgresql://{user}@h/db", query="SELECT 1"), ReaderSettings(tmp_path, 100))
        one._snapshot.folder.mkdir(exist_ok=True)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_password_with_a_slash_or_an_at_sign_is_taken_from_the_environment(
    shop: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.execute(
        "DROP ROLE IF EXISTS ann", "CREATE ROLE ann LOGIN PASSWORD 'a/b@c:d'", "GRANT ALL ON SCHEMA public TO ann"
    )
    monkeypatch.setenv("SHOP_PASSWORD", "a/b@c:d")
    user = shop.url.partition("://")[2].partition(":")[0]
    one = reader(shop, tmp_path, "SELECT 1 AS body", sql=shop.url.replace(f"://{user}:", "://ann:"))
    assert [record.values for record in fetched(one)] == [{"body": 1}]


def test_a_server_that_is_away_is_worth_another_try(shop: Postgres, tmp_path: Path) -> None:
    shop.execute(TICKETS, "INSERT INTO tickets VALUES (1, 'one', '2026-01-01')")
    one = reader(shop, tmp_path)
    one.fetch()
    shop.stop()
    try:
        with pytest.raises(SourceUnavailable, match="refused") as caught:
            one.fetch()
    finally:
        shop.start()
    assert caught.value.retryable and bodies(list(one.records())) == ["one"]
    one.fetch()


def test_another_database_behind_the_same_recipe_is_not_mixed_with_the_first(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other").mkdir()
    other = Desk(tmp_path / "other")
    other.execute("CREATE TABLE tickets (id, body, at)", "INSERT INTO tickets VALUES (1, 'other', 1)")
    desk.execute("INSERT INTO tickets VALUES (1, 'one', 5)")
    one = reader(desk, tmp_path, sql="${DESK}", watermark="at")
    monkeypatch.setenv("DESK", desk.url)
    one.fetch()
    monkeypatch.setenv("DESK", other.url)
    assert bodies(fetched(one)) == ["other"]


@pytest.mark.parametrize("url", ["postgresql://me:${NO_SUCH_SECRET}@localhost/x", "${NO_SUCH_SECRET}"])
def test_a_missing_variable_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.delenv("NO_SUCH_SECRET", raising=False)
    source = SqlSource(sql=url, query="SELECT 1")
    with pytest.raises(SourceError, match="NO_SUCH_SECRET is not set"):
        SqlReader(source, ReaderSettings(tmp_path, 100)).check()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("no url at all", "cannot be read"),
        ("postgresql://me:secret@host:port/x", "cannot be read"),
        ("mystery://me:secret@host/x", "driver for this database is missing"),
        ("oracle+cx_oracle://me:secret@host/x", "driver for this database is missing"),
        ("sqlite://", "does not exist"),
        ("sqlite:///nowhere.db", "does not exist"),
    ],
)
def test_a_url_that_leads_nowhere_is_found_before_anything_runs(tmp_path: Path, url: str, said: str) -> None:
    with pytest.raises(SourceError, match=said) as caught:
        SqlReader(SqlSource(sql=url, query="SELECT 1"), ReaderSettings(tmp_path, 100)).check()
    assert "secret" not in str(caught.value) and not Path("nowhere.db").exists()


def test_a_sqlite_file_is_neither_created_nor_written(desk: Desk, tmp_path: Path) -> None:
    missing = tmp_path / "missing.db"
    with pytest.raises(SourceError, match="does not exist"):
        reader(desk, tmp_path, sql=f"sqlite:///{missing}").fetch()
    assert not missing.exists()
    before = desk.file.read_bytes()
    with pytest.raises(SourceError):
        reader(desk, tmp_path, "WITH x AS (SELECT 1) DELETE FROM tickets").fetch()
    assert desk.file.read_bytes() == before


def test_a_file_that_is_no_database_is_an_error(desk: Desk, tmp_path: Path) -> None:
    desk.file.write_text("no database, but longer than a header of one " * 50)
    with pytest.raises(SourceError, match="not a database"):
        reader(desk, tmp_path).fetch()


def test_a_locked_sqlite_file_is_worth_another_try(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.collect.sources.databases.SQLITE_SECONDS", 0.1)
    holder = sqlite3.connect(desk.file, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(SourceUnavailable, match="locked"):
            reader(desk, tmp_path).fetch()
    finally:
        holder.close()


def test_text_that_is_no_utf_8_costs_one_row(desk: Desk, tmp_path: Path) -> None:
    desk.execute("INSERT INTO tickets VALUES (1, 'good', 1), (2, CAST(x'ff41' AS TEXT), 2), (3, 'a' || char(0), 3)")
    records = fetched(reader(desk, tmp_path))
    assert [bool(record.values) for record in records] == [True, False, False]
    assert "0xff" in records[1].problem and "NUL" in records[2].problem


def test_a_watermark_of_two_types_is_an_error(desk: Desk, tmp_path: Path) -> None:
    desk.execute("INSERT INTO tickets VALUES (1, 'one', 1), (2, 'two', '2026-01-01')")
    with pytest.raises(SourceError, match="types have no common order"):
        reader(desk, tmp_path, watermark="at").fetch()


def test_a_misspelt_watermark_is_an_error_in_sqlite_too(desk: Desk, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="Updated At"):
        reader(desk, tmp_path, watermark="Updated At").fetch()


def test_a_field_beyond_the_limit_costs_one_row(desk: Desk, tmp_path: Path) -> None:
    desk.execute(f"INSERT INTO tickets VALUES (1, '{'x' * 20_000}', 1), (2, 'two', 2)")
    records = fetched(reader(desk, tmp_path))
    assert records[0].values is None and "20,0" in records[0].problem and bodies(records)[1] == "two"


def test_only_the_rows_at_the_last_watermark_are_remembered() -> None:
    watermark = Watermark()
    for value in (1, 1, 2, None):
        digest = watermark.advance(value, f"row {value}".encode(), "")
    assert (watermark.last, len(watermark.ties), watermark.unmarked) == (2, 1, {digest})


ROWS = st.lists(st.tuples(st.integers(0, 5) | st.none(), st.text("ab", max_size=2)), max_size=12)


@settings(max_examples=50, deadline=None)
@given(nights=st.lists(ROWS, max_size=4))
def test_whatever_is_added_at_or_above_the_watermark_is_taken_once(nights: list[list[tuple[int | None, str]]]) -> None:
    """As the reader does it, over a table that only grows upwards."""
    table: list[tuple[int | None, str]] = []
    taken: list[tuple[int | None, str]] = []
    past = Watermark()
    for night in nights:
        table += [row for row in night if row[0] is None or past.last is None or row[0] >= past.last]
        given_rows = [row for row in table if row[0] is None or past.last is None or row[0] >= past.last]
        now = Watermark(past.last)
        for row in sorted(given_rows, key=lambda row: (row[0] is None, row[0] or 0)):
            if not past.holds(now.advance(row[0], repr(row).encode(), "")):
                taken.append(row)
        past = Watermark.read(now.as_details())
    assert set(taken) == set(table)
