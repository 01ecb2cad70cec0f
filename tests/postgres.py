"""A PostgreSQL server of the tests' own: in a temporary folder, on a free loopback port, gone afterwards."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tasks.core.processes import free_port

USER, PASSWORD, DATABASE = "retune", "a pass/word@with:signs", "shop"
UNPRIVILEGED = ("postgres", "nobody")
"""PostgreSQL refuses to run as root."""


@dataclass(frozen=True)
class Postgres:
    """A running server.

    Attributes:
        port: on 127.0.0.1.
        data: its folder.
    """

    port: int
    data: Path
    programs: Path

    @property
    def url(self) -> str:
        """With a variable where the password belongs."""
        return f"postgresql://{USER}:${{SHOP_PASSWORD}}@127.0.0.1:{self.port}/{DATABASE}"

    def execute(self, *statements: str) -> None:
        import psycopg

        with psycopg.connect(
            host="127.0.0.1", port=self.port, user=USER, password=PASSWORD, dbname=DATABASE, autocommit=True
        ) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def stop(self) -> None:
        _run([self.programs / "pg_ctl", "-D", self.data, "stop", "-m", "immediate", "-w"], self.data.parent)

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
        log = self.data.parent / "server.log"
        _run([self.programs / "pg_ctl", "-D", self.data, "-l", log, "-o", options, "start", "-w"], self.data.parent)


def find_programs() -> Path | None:
    """The folder of ``initdb`` and ``pg_ctl``; None where PostgreSQL is not installed."""
    if asked := shutil.which("pg_config"):
        answer = subprocess.run([asked, "--bindir"], capture_output=True, text=True, check=False).stdout.strip()
        if (Path(answer) / "initdb").is_file():
            return Path(answer)
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    return installed[-1].parent if installed else Path(on_path).parent if on_path else None


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A fresh server with an empty database, ended and removed afterwards; skips the test where none is installed."""
    programs = find_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed: no initdb")
    folder = Path(tempfile.mkdtemp(prefix="retune-postgres-"))
    try:
        secret = folder / "password"
        secret.write_text(PASSWORD)
        if account := _account():
            for path in (folder, secret):
                os.chown(path, account.pw_uid, account.pw_gid)
        data = folder / "data"
        access: list[str | Path] = ["-U", USER, "-A", "scram-sha-256", "--pwfile", secret]
        _run([programs / "initdb", "-D", data, *access, "-E", "UTF8", "--locale=C", "--no-sync"], folder)
        server = _started(data, programs)
        try:
            _create_database(server)
            yield server
        finally:
            if (server.data / "postmaster.pid").exists():
                server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _started(data: Path, programs: Path) -> Postgres:
    """A running server; somebody else may take a free port before it does, so that several are tried."""
    for tries_left in range(4, -1, -1):
        server = Postgres(free_port(), data, programs)
        try:
            server.start()
            break
        except AssertionError:
            if not tries_left:
                raise
    return server


def _create_database(server: Postgres) -> None:
    import psycopg

    with psycopg.connect(
        host="127.0.0.1", port=server.port, user=USER, password=PASSWORD, dbname="postgres", autocommit=True
    ) as connection:
        connection.execute(f"CREATE DATABASE {DATABASE}".encode())


def _account() -> pwd.struct_passwd | None:
    """Who runs the server where the tests run as root."""
    if os.geteuid() != 0:
        return None
    known = {account.pw_name: account for account in pwd.getpwall()}
    return next(known[name] for name in UNPRIVILEGED if name in known)


def _run(command: Sequence[str | Path], folder: Path) -> None:
    account = _account()
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        user=account.pw_uid if account else None,
        group=account.pw_gid if account else None,
        extra_groups=[] if account else None,
        env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"},
    )
    assert done.returncode == 0, f"{Path(command[0]).name} failed: {done.stderr}"
