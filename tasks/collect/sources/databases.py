"""Read-only database connections through SQLAlchemy, and the meaning of database errors."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection, Engine, NullPool, create_engine, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    InterfaceError,
    NoSuchModuleError,
    OperationalError,
    SQLAlchemyError,
)

from tasks.collect.sources.environment import Environment
from tasks.core.errors import SourceError, SourceUnavailable

CONNECT_SECONDS = 15
SQLITE_SECONDS = 30.0
"""Longest wait for the lock of a SQLite file."""
USERINFO = re.compile(r"(?<=://)(?!/)[^:/@]*(?::[^@]*)?(?=@)")
"""As SQLAlchemy parses a URL: a password extends to the first @."""
PASSWORD = re.compile(r"(?<=://)(?!/)([^:/@]*):(?:[^?]*(?=@)|[^@]*(?=@))")
"""Up to the last @ before the query, so that a password with an unencoded @ is hidden as well."""
PARAMETER = re.compile(r"([?&][^=&]*(?:pass|pwd|secret|token|key)[^=&]*=)[^&]*", re.IGNORECASE)
"""A parameter of a URL's query that can hold a password."""
DRIVERS = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}
AS_TEXT = ("date", "timestamp", "timestamptz", "interval", "numeric")
"""PostgreSQL types with values that Python lacks, such as infinity, BC, and years after 9999."""
REFUSED = re.compile(r"authentication failed|no password supplied|does not exist|no pg_hba\.conf entry|not permitted")
"""Errors of a connection attempt that a retry cannot fix."""


def database_url(written: str, environment: Environment) -> URL:
    """The URL of a recipe with its variables expanded; a password is encoded here for its place in the URL."""
    with_user = USERINFO.sub(lambda match: environment.expand(match[0], quoted=True), written, count=1)
    expanded = environment.expand(with_user)
    try:
        url = make_url(expanded)
        url = url.set(drivername=DRIVERS.get(url.drivername, url.drivername))
        url.get_dialect().import_dbapi()
    except (ArgumentError, ValueError) as error:
        if isinstance(error, NoSuchModuleError):
            raise _no_driver(error, environment.where) from error
        remedy = "write it as SQLAlchemy does: postgresql://user:${PASSWORD}@host:5432/database or sqlite:///file.db"
        raise SourceError("The database's URL cannot be read", where=environment.where, remedy=remedy) from error
    except ImportError as error:
        raise _no_driver(error, environment.where) from error
    if url.get_backend_name() == "sqlite" and not (url.database and Path(url.database).is_file()):
        remedy = "correct the path: sqlite:///relative.db or, with four slashes, sqlite:////absolute/path.db"
        raise SourceError("The SQLite file does not exist", where=environment.where, remedy=remedy)
    return url


def without_password(url: str) -> str:
    """A database's URL for messages: user and database stay, so that sources remain distinct."""
    return PARAMETER.sub(r"\1***", PASSWORD.sub(r"\1:***", url))


def _no_driver(error: Exception, where: str) -> SourceError:
    remedy = "install the driver's package; those of SQLite and PostgreSQL (psycopg) come with Retune"
    return SourceError(f"The driver for this database is missing: {error}", where=where, remedy=remedy)


@contextmanager
def read_only(url: URL, environment: Environment) -> Iterator[Connection]:
    """A connection whose transaction cannot write, where the database supports it (SQLite, PostgreSQL)."""
    engine = _engine(url)
    try:
        with engine.connect() as connection:
            if url.get_backend_name() == "postgresql":
                _prepare_postgres(connection)
            yield connection
    except SQLAlchemyError as error:
        raise _meaning(error, url, environment) from error
    finally:
        engine.dispose()


def _engine(url: URL) -> Engine:
    if url.get_backend_name() != "sqlite":
        wait = {"connect_timeout": CONNECT_SECONDS} if url.get_backend_name() == "postgresql" else {}
        return create_engine(url, poolclass=NullPool, connect_args=wait)

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(f"file:{quote(str(url.database))}?mode=ro", uri=True, timeout=SQLITE_SECONDS)
        # Invalid UTF-8 becomes lone surrogates, which are refused row by row, not for the whole table.
        connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
        return connection

    return create_engine("sqlite://", creator=connect, poolclass=NullPool)


def _prepare_postgres(connection: Connection) -> None:
    connection.execution_options(postgresql_readonly=True)
    connection.execute(
        text("SET LOCAL TIME ZONE 'UTC'")
    )  # the same text for a timestamp, whatever the server's setting
    connection.execute(text("SET LOCAL DateStyle = 'ISO'"))
    driver = connection.connection.driver_connection
    if connection.dialect.driver == "psycopg" and driver is not None:
        from psycopg.types.string import TextLoader

        for kind in AS_TEXT:
            driver.adapters.register_loader(kind, TextLoader)


def _meaning(error: SQLAlchemyError, url: URL, environment: Environment) -> SourceError:
    answer = environment.hide(str(error.orig if isinstance(error, DBAPIError) else error).strip())
    where = environment.hide(without_password(url.render_as_string(hide_password=True)))
    if _can_pass(error, answer, url):
        remedy = "check that the database is up and reachable; data read before are kept"
        return SourceUnavailable(f"The database does not answer: {answer}", where=where, remedy=remedy)
    remedy = "correct the URL, the rights or the query; data read before are kept"
    return SourceError(f"The database refused: {answer}", where=where, remedy=remedy)


def _can_pass(error: SQLAlchemyError, answer: str, url: URL) -> bool:
    if url.get_backend_name() == "sqlite":
        return "locked" in answer or "busy" in answer
    return isinstance(error, OperationalError | InterfaceError) and not REFUSED.search(answer)
