"""A Prefect server: one that is running, or one that is started as a child process and ends with this one."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from tasks.core.child_logs import cause_in, new_log
from tasks.core.errors import MachineError
from tasks.core.files import write_json
from tasks.core.home import Home
from tasks.core.processes import free_port, running
from tasks.core.progress import say

START_TIMEOUT_SECONDS = 180
OWN_LOG = {"PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "INFO"}
"""Server and worker write log files, so they log more than the terminal shows."""
HAND_OVER_SECONDS = 20
UP_FILE = "up.json"


@dataclass(frozen=True)
class PrefectServer:
    """A running server: the URL of its API, its log, and its process."""

    url: str
    log: Path
    process: subprocess.Popen[str]


@contextlib.contextmanager
def prefect_api(home: Home) -> Iterator[str]:
    """The API that a run reports to: PREFECT_API_URL, else that of a running ``retune up``, else a new server."""
    if url := os.environ.get("PREFECT_API_URL"):
        _require_answer(url)
        yield url
        return
    url = _url_of_up(home)
    if url:
        with _api_url(url):
            yield url
        return
    with prefect_server(home, free_port(), interface=False) as server:
        try:
            yield server.url
        finally:
            _hand_over()


def _require_answer(url: str) -> None:
    """Raise a MachineError if the server that PREFECT_API_URL names does not answer; with Prefect's own client."""
    from prefect import get_client

    try:
        with get_client(sync_client=True) as client:
            problem = client.api_healthcheck()
    except Exception as error:  # whatever the address makes of the client
        problem = error
    if problem is not None:
        raise MachineError(
            f"No Prefect server answers at PREFECT_API_URL: {type(problem).__name__}: {problem}",
            where=url,
            remedy=f"start that server (`{Home.from_environment().command('up')}`), correct the address, or"
            " `unset PREFECT_API_URL`: the run then starts a server of its own",
        )


def _hand_over() -> None:
    """Send what Prefect has not sent yet; without its server, it would retry for a minute at exit."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    for worker in (APILogWorker, EventsWorker):
        worker.drain_all(timeout=HAND_OVER_SECONDS)


@contextlib.contextmanager
def prefect_server(home: Home, port: int, *, interface: bool) -> Iterator[PrefectServer]:
    """Run a Prefect server with its SQLite database under RETUNE_HOME while the block runs.

    ``port``: on 127.0.0.1. ``interface``: also run the web interface and the services (scheduler and so on). Raises
    MachineError: the port is in use, or the server does not start.
    """
    _require_free(home, port)
    log = new_log(home.logs / "prefect-server.log")
    url = f"http://127.0.0.1:{port}/api"
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    environment = {"PREFECT_API_URL": url, "PREFECT_SERVER_UI_ENABLED": str(interface).lower(), **OWN_LOG}
    say("starting the Prefect server")
    with running(command if interface else [*command, "--no-services"], log=log, environment=environment) as process:
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while not _answers(url):
            if process.poll() is not None or time.monotonic() > deadline:
                raise MachineError(
                    f"The Prefect server did not start; {cause_in(log)}",
                    where=str(log),
                    remedy="read the log; move away a database of another Prefect version",
                )
            time.sleep(0.3)
        with _api_url(url):
            yield PrefectServer(url, log, process)


@contextlib.contextmanager
def announced(home: Home, url: str) -> Iterator[None]:
    """Write the file by which ``retune run`` finds this server, while the block runs."""
    file = home.root / "prefect" / UP_FILE
    write_json(file, {"url": url})
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def _url_of_up(home: Home) -> str | None:
    file = home.root / "prefect" / UP_FILE
    if not file.is_file():
        return None
    url: str = json.loads(file.read_text(encoding="utf-8"))["url"]
    return url if _answers(url) else None


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=5, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


@contextlib.contextmanager
def _api_url(url: str) -> Iterator[None]:
    os.environ["PREFECT_API_URL"] = url
    try:
        yield
    finally:
        del os.environ["PREFECT_API_URL"]


def _require_free(home: Home, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise MachineError(
                f"Port {port} is in use",
                where=f"127.0.0.1:{port}",
                remedy=f"stop the program that uses it, or name another port: {home.command('up', '--port', '4300')}",
            ) from error
