"""After a power cut the next night runs: everything that `retune up` started is killed, and it is started again."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

from tasks.core.home import PROJECT_ROOT
from tasks.core.processes import free_port
from tests.e2e.conftest import RECIPES, Retune, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.faults]

SECONDS = 240


@contextmanager
def source() -> Iterator[tuple[str, threading.Event]]:
    """A source of documents that has no answer before the event, and then no documents."""
    answers = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answers.wait(SECONDS)
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"[]")

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/messages", answers
    finally:
        answers.set()
        server.shutdown()
        server.server_close()


def write_recipe(folder: Path, url: str) -> str:
    recipe = yaml.safe_load((RECIPES / "small.yaml").read_text(encoding="utf-8"))
    recipe["model"]["path"] = str(PROJECT_ROOT / "seedling" / "model")
    recipe["collect"]["sources"] = [{"url": url, "allow_hosts": ["127.0.0.1"]}]
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return str(path)


class Api:
    """Prefect's API at the port of `retune up`."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/api"

    def deployment(self) -> str:
        found: str = httpx.get(
            f"{self.url}/deployments/name/nightly-retraining/on-demand", timeout=60, trust_env=False
        ).json()["id"]
        return found

    def post(self, path: str, body: Any) -> Any:
        return httpx.post(f"{self.url}/{path}", json=body, timeout=60, trust_env=False).raise_for_status().json()

    def runs(self) -> list[dict[str, Any]]:
        runs: list[dict[str, Any]] = self.post("flow_runs/filter", {"sort": "START_TIME_ASC"})
        return runs

    def states(self) -> dict[str, str]:
        return {run["id"]: run["state"]["type"] for run in self.runs()}


def start(retune: Retune, port: int) -> psutil.Process:
    before = retune.output().count("ready:") if (retune.home.parent / "output.log").exists() else 0
    process = retune.start("up", "--port", str(port))
    wait_until(lambda: retune.output().count("ready:") > before or process.poll() is not None, SECONDS, retune.output)
    assert process.poll() is None, retune.output()
    return psutil.Process(process.pid)


def test_a_scheduled_night_runs_after_everything_was_killed_in_the_middle_of_another(
    retune: Retune, tmp_path: Path
) -> None:
    port = free_port()
    api = Api(port)
    with source() as (url, answers):
        recipe = {"recipe": write_recipe(tmp_path, url)}
        up = start(retune, port)
        killed = api.post(f"deployments/{api.deployment()}/create_flow_run", {"parameters": recipe})["id"]
        wait_until(lambda: (retune.home / "run.json").exists(), SECONDS, retune.output)
        assert api.states()[killed] == "RUNNING"
        for process in (up, *up.children(recursive=True)):
            process.kill()
        retune.wait_for_no_process()
        assert json.loads((retune.home / "run.json").read_text(encoding="utf-8"))["flow_run_id"] == killed

        answers.set()
        up = start(retune, port)
        assert api.states()[killed] == "CRASHED"
        schedule = {"schedule": {"interval": 20, "anchor_date": "2026-01-01T00:00:00Z"}, "active": True}
        api.post(f"deployments/{api.deployment()}/schedules", [{**schedule, "parameters": recipe}])

        def later() -> list[str]:
            return [state for run, state in api.states().items() if run != killed]

        wait_until(lambda: bool({"FAILED", "CANCELLED", "COMPLETED"} & set(later())), SECONDS, lambda: str(api.runs()))
        assert "CANCELLED" not in later() and "FAILED" in later(), api.runs()
        up.terminate()
        up.wait(SECONDS)
    deadline = time.monotonic() + 60
    while retune.processes() and time.monotonic() < deadline:
        time.sleep(0.2)
    record = retune.report()
    assert record["status"] == "failed" and "no rows" in record["error"], record["error"]
