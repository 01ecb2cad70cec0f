"""``retune up`` in one shell, ``prefect deployment run`` in another: a real server, a real process worker."""

from __future__ import annotations

import csv
import signal
import socket
from pathlib import Path

import httpx
import pytest
import yaml

from tasks.core.home import PROJECT_ROOT
from tasks.core.processes import free_port
from tests.e2e.conftest import RECIPES, Retune, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

CLINC = PROJECT_ROOT.parent / "shared" / "data" / "clinc150" / "test.csv"
START_SECONDS = 240


def write_recipe(folder: Path) -> tuple[str, str]:
    """Name and path of a recipe on collected rows alone, with a learning curve.

    Of real messages of CLINC150 where that data set lies beside the project, else of the project's own.
    """
    recipe = yaml.safe_load((RECIPES / ("clinc150.yaml" if CLINC.is_file() else "small.yaml")).read_text("utf-8"))
    recipe.pop("generate", None)
    recipe["model"]["path"] = str(PROJECT_ROOT / "seedling" / "model")
    for source in recipe["collect"]["sources"]:
        source["path"] = str((RECIPES / source["path"]).resolve())
    recipe["validate"] = {"contracts": {"rows": "chat_examples"}, "minimum_rows": 40}
    recipe["train"]["fractions"] = [0.5, 1.0]
    path = folder / "curve.yaml"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    return recipe["name"], str(path)


def api(url: str, path: str, **body: object) -> list[dict[str, object]]:
    found: list[dict[str, object]] = httpx.post(f"{url}/{path}/filter", json=body, timeout=30).json()
    return found


def test_a_deployment_run_completes_on_a_worker_and_ctrl_c_ends_everything(retune: Retune, tmp_path: Path) -> None:
    name, recipe = write_recipe(tmp_path)
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
        half, whole = record["evaluation"]["curve"]
        assert half["rows"] < whole["rows"] and whole["score"] == record["evaluation"]["candidate"]
        with (Path(record["stages"]["evaluate"]["path"]) / "curve.csv").open(encoding="utf-8") as file:
            assert [float(row["score"]) for row in csv.DictReader(file)] == [half["score"], whole["score"]]
        assert record["evaluation"]["curve_gain"]["sentence"] in retune.call("report").stdout
        assert list(record["stages"])[-4:] == ["train 0.5", "train", "evaluate", "publish"]

        runs = api(url, "flow_runs")
        assert {"COMPLETED", "SCHEDULED"} <= {str(one["state_type"]) for one in runs}
        keys = {str(one["key"]) for one in api(url, "artifacts")}
        assert {f"{name}-rows", f"{name}-evaluation"} <= keys
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
