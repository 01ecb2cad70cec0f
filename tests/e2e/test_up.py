"""``retune up`` in one shell, ``prefect deployment run`` in another: a real server, a real process worker."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import httpx
import pytest

from tasks.core.home import PROJECT_ROOT
from tasks.core.processes import free_port
from tests.e2e.conftest import RECIPES, Retune, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

CLINC = PROJECT_ROOT.parent / "shared" / "data" / "clinc150" / "test.csv"
START_SECONDS = 240


def api(url: str, path: str, **body: object) -> list[dict[str, object]]:
    found: list[dict[str, object]] = httpx.post(f"{url}/{path}/filter", json=body, timeout=30).json()
    return found


def test_a_deployment_run_completes_on_a_worker_and_ctrl_c_ends_everything(retune: Retune) -> None:
    """On real messages of CLINC150 where that data set lies beside the project, else on the project's own."""
    name = "clinc150" if CLINC.is_file() else "small"
    recipe = RECIPES / f"{name}.yaml"
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    process = retune.start("up", "--port", str(port))
    try:
        wait_until(lambda: "ready:" in retune.output() or process.poll() is not None, START_SECONDS, retune.output)
        assert process.poll() is None, retune.output()
        retune.settings["PREFECT_API_URL"] = url
        run = ["deployment", "run", "nightly-retraining/on-demand", "--watch"]
        done = retune.call(*run, "--param", f"recipe={recipe}", module="prefect")
        assert done.returncode == 0, done.stdout + done.stderr + retune.output()
        record = retune.report()
        assert record["status"] in ("published", "rejected")
        assert record["evaluation"]["n"] >= 30
        assert Path(record["stages"]["validate"]["path"], "report", "data_docs", "rows", "index.html").is_file()

        runs = api(url, "flow_runs")
        assert {"COMPLETED", "SCHEDULED"} <= {str(one["state_type"]) for one in runs}
        keys = {str(one["key"]) for one in api(url, "artifacts")}
        assert {f"{name}-rows", f"{name}-evaluation", f"{name}-samples"} <= keys
        assert httpx.get(f"http://127.0.0.1:{port}/", timeout=30, follow_redirects=True).status_code == 200
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=120)
    assert process.returncode == 0, retune.output()
    retune.wait_for_no_process()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0, "the port is still open"


def test_a_port_in_use_is_one_clear_error(retune: Retune) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = retune.call("up", "--port", str(port))
    assert done.returncode == 1
    assert f"Port {port} is in use" in done.stderr
    assert "Traceback" not in done.stderr
