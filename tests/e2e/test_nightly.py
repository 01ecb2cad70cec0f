"""One small night with every real part, from a folder, a database and S3, on a real Prefect server and worker.

It is killed and interrupted; then ``prefect deployment run`` ends it on a worker of ``retune up``.
It is published once, repeated, followed by one with news, and rolled back. The tests share one RETUNE_HOME and run in
this order: each goes on from where the one before left it.
"""

from __future__ import annotations

import csv
import gzip
import json
import re
import signal
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import pandas as pd
import pytest
import yaml

from flows.report.record import COUNTS
from tasks.core.config import ModelSource, ServerSettings
from tasks.core.home import PROJECT_ROOT, Home
from tasks.core.processes import free_port
from tasks.core.vllm.server import serving
from tasks.publish.registry import Registry
from tests.e2e.conftest import RECIPES, Retune, wait_until
from tests.object_store import client_of, object_store

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

MESSAGES = PROJECT_ROOT / "deployments" / "recipes" / "data" / "support_messages.csv"
QUEUES = ("cards", "flights", "dining", "payroll")
START_SECONDS = 300
ANSWERS_BEFORE_KILL = 40


@dataclass(frozen=True)
class Sources:
    """A third of the messages in a folder, in a database and in a bucket, and the recipe that reads them all."""

    database: Path
    recipe: str
    messages: int


def write_folder(folder: Path, rows: list[dict[str, str]]) -> None:
    """Two formats, a line that cannot be read, and a file that is not text."""
    folder.mkdir()
    with (folder / "messages.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows[1:])
    with gzip.open(folder / "more.jsonl.gz", "wt", encoding="utf-8") as packed:
        packed.write(json.dumps(rows[0]) + '\n{"message": [\n')
    (folder / "photo.jpg").write_bytes(b"\xff\xd8")


def write_database(file: Path, rows: list[dict[str, str]]) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE messages (id TEXT, message TEXT, queue TEXT, topic TEXT, updated_at TEXT)")
        values = [(row["id"], row["message"], row["queue"], row["topic"], "2026-01-01 00:00:00") for row in rows]
        connection.executemany("INSERT INTO messages VALUES (?, ?, ?, ?, ?)", values)


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with object_store() as url:
        yield url


def write_bucket(url: str, rows: list[dict[str, str]]) -> None:
    client = client_of(url)
    client.create_bucket(Bucket="messages")
    body = "".join(json.dumps(row) + "\n" for row in rows).encode()
    client.put_object(Bucket="messages", Key="days/1.jsonl.gz", Body=gzip.compress(body))


@pytest.fixture(scope="module")
def sources(retune: Retune, bucket: str, tmp_path_factory: pytest.TempPathFactory) -> Sources:
    folder = tmp_path_factory.mktemp("sources")
    with MESSAGES.open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["queue"] in QUEUES]
    found = Sources(folder / "shop.db", str(folder / "small.yaml"), len(rows))
    write_folder(folder / "folder", rows[::3])
    write_database(found.database, rows[1::3])
    write_bucket(bucket, rows[2::3])
    recipe = yaml.safe_load((RECIPES / "small.yaml").read_text(encoding="utf-8"))
    recipe["model"]["path"] = str(PROJECT_ROOT / "seedling" / "model")
    query = "SELECT id, message, queue, topic, updated_at FROM messages"
    recipe["collect"]["sources"] = [
        {"path": "folder"},
        {"sql": f"sqlite:///{found.database}", "query": query, "watermark": "updated_at"},
        {"object": "s3://messages/days/", "options": {"endpoint_url": bucket, "key": "${S3_KEY}", "secret": "y"}},
    ]
    Path(found.recipe).write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    retune.settings |= {"S3_KEY": "x"}
    return found


@dataclass(frozen=True)
class Up:
    """What ``retune up`` started."""

    process: subprocess.Popen[str]
    port: int

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{path}"


@pytest.fixture(scope="module")
def up(retune: Retune) -> Iterator[Up]:
    port = free_port()
    process = retune.start("up", "--port", str(port))
    wait_until(lambda: "ready:" in retune.output() or process.poll() is not None, START_SECONDS, retune.output)
    assert process.poll() is None, retune.output()
    yield Up(process, port)
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=120)


def answers(home: Path) -> int:
    if not (home / "answers.sqlite").is_file():
        return 0
    with sqlite3.connect(home / "answers.sqlite", timeout=30) as connection:
        try:
            count: int = connection.execute("SELECT count(*) FROM answers").fetchone()[0]
        except sqlite3.OperationalError:
            return 0
    return count


def details(record: dict[str, Any], stage: str) -> dict[str, Any]:
    manifest = json.loads((Path(record["stages"][stage]["path"]) / "manifest.json").read_text())
    found: dict[str, Any] = manifest["summary"]["details"]
    return found


def test_a_port_in_use_is_one_clear_error(retune: Retune) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = retune.call("up", "--port", str(port))
    assert done.returncode == 1
    assert f"Port {port} is in use" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_kill_in_the_middle_of_generation_leaves_no_process_and_keeps_the_answers(
    retune: Retune, sources: Sources
) -> None:
    process = retune.start("run", "--recipe", sources.recipe)
    wait_until(
        lambda: answers(retune.home) >= ANSWERS_BEFORE_KILL or process.poll() is not None, START_SECONDS, retune.output
    )
    assert process.poll() is None, retune.output()
    process.send_signal(signal.SIGKILL)
    process.wait()
    retune.wait_for_no_process()
    assert answers(retune.home) >= ANSWERS_BEFORE_KILL
    assert retune.report()["status"] == "failed"


def test_the_next_run_asks_nothing_again_and_ctrl_c_in_training_leaves_a_checkpoint(
    retune: Retune, sources: Sources
) -> None:
    before = answers(retune.home)
    process = retune.start("run", "--recipe", sources.recipe)

    def checkpointed() -> bool:
        return any(retune.home.glob("work/train/*/**/checkpoint.json")) or process.poll() is not None

    wait_until(checkpointed, START_SECONDS, retune.output)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130, retune.output()
    assert "interrupted" in retune.output()
    assert retune.processes() == []
    record = retune.report()
    assert record["status"] == "failed"
    generated = details(record, "generate")
    assert generated["reused"] >= before, "answered rows were asked again"
    assert generated["asked"] + generated["reused"] == answers(retune.home)
    stats = generated["stats"]
    assert (stats["restarts"], stats["failed"]) == (0, 0)
    assert 0 < stats["first_token_seconds"]["p50"] <= stats["latency_seconds"]["p50"]


def test_a_deployment_run_on_a_worker_resumes_training_and_publishes_once(
    retune: Retune, sources: Sources, up: Up
) -> None:
    retune.settings["PREFECT_API_URL"] = up.url("api")
    run = ["deployment", "run", "nightly-retraining/on-demand", "--watch"]
    done = retune.call(*run, "--param", f"recipe={sources.recipe}", module="prefect")
    del retune.settings["PREFECT_API_URL"]  # the command finds the server of `retune up` by itself
    assert done.returncode == 0, done.stdout + done.stderr + retune.output()
    record = retune.report()
    assert record["status"] == "published"
    assert record["stages"]["generate"]["cached"]
    assert details(record, "train")["resumed_from"] >= 10
    assert details(record, "train")["quantised_layers"] == 42
    assert 0 < details(record, "train")["trained_token_share"] < 1
    assert record["evaluation"]["candidate"] - record["evaluation"]["base"] >= 0.3
    assert record["evaluation"]["ci_low"] > 0
    for name, stage in record["stages"].items():
        assert stage["rows_in"] == sum(stage[count] for count in COUNTS[1:]), name
    assert len(Registry(Home(retune.home), "small-router").versions()) == 1
    page = retune.call("report").stdout
    for text in ("published", "95% interval", "champion: small-router version 1"):
        assert text in page
    runs = httpx.post(up.url("api/flow_runs/filter"), json={}, timeout=30).json()
    assert {"COMPLETED", "SCHEDULED"} <= {one["state_type"] for one in runs}
    assert httpx.get(up.url(""), timeout=30, follow_redirects=True).status_code == 200


def documents(record: dict[str, Any]) -> pd.DataFrame:
    folder = Path(record["stages"]["collect"]["path"])
    return pd.concat([pd.read_parquet(folder / f"{split}.parquet") for split in ("train", "holdout")])


def test_it_read_every_source(retune: Retune, sources: Sources) -> None:
    record = retune.report()
    assert record["stages"]["collect"]["rules"] == {"unreadable": 1}
    assert any("photo.jpg" in note for note in record["stages"]["collect"]["notes"])
    counts = documents(record)["source"].value_counts()
    assert counts["messages.csv"] > 30 and counts["more.jsonl.gz"] == 1
    assert sum(counts) == sources.messages and len(counts) == 4, counts


def test_every_link_of_the_page_leads_to_a_file(retune: Retune) -> None:
    folder = retune.home / "runs" / retune.report()["run_id"]
    links = re.findall(r"\]\(([^)]+)\)", (folder / "report.md").read_text(encoding="utf-8"))
    assert {"loss.png", "waterfall.png", "evaluation.md", "answers.parquet"} <= {Path(link).name for link in links}
    assert [link for link in links if not (folder / unquote(link)).is_file()] == []


def test_prefect_shows_the_counts_the_progress_and_what_became_of_every_row(retune: Retune) -> None:
    with sqlite3.connect(retune.home / "prefect" / "prefect.db", timeout=30) as connection:
        found = connection.execute("SELECT key, data, task_run_id FROM artifact WHERE key IS NOT NULL ORDER BY created")
        shown = {key: (data, task_run) for key, data, task_run in found}
    assert {"small-rows", "small-waterfall", "small-evaluation", "small-samples"} <= set(shown)
    share, task_run = shown["generate-progress"]
    assert float(share) == 100 and task_run is not None
    whole = json.loads(json.loads(shown["small-waterfall"][0]))[-1]
    stages = retune.report()["stages"]
    assert whole["distinct, kept"] == stages["validate"]["accepted"]
    assert whole["asked"] == stages["generate"]["quarantined"] + stages["validate"]["rows_in"]


def test_teacher_rows_are_mostly_valid_and_distinct(retune: Retune) -> None:
    stages = retune.report()["stages"]
    assert stages["generate"]["accepted"] >= 0.5 * stages["generate"]["rows_in"]
    validated = stages["validate"]
    assert validated["accepted"] >= 0.6 * (validated["accepted"] + validated["duplicates"])


def test_the_same_night_again_is_a_no_op(retune: Retune, sources: Sources, up: Up) -> None:
    done = retune.call("run", "--recipe", sources.recipe)
    assert done.returncode == 0, done.stderr
    record = retune.report()
    assert record["status"] == "no-op"
    assert all(stage["cached"] for stage in record["stages"].values())
    assert len(Registry(Home(retune.home), "small-router").versions()) == 1


@pytest.fixture
def right_answer(retune: Retune) -> tuple[list[dict[str, str]], str, Path]:
    """A held-out conversation that the candidate answered rightly, the right queue, and the champion's folder."""
    record = retune.report()
    table = pd.read_parquet(Path(record["stages"]["evaluate"]["path"]) / "answers.parquet")
    document = table[table["candidate_score"] == 1].iloc[0]
    holdout = pd.read_parquet(Path(record["stages"]["collect"]["path"]) / "holdout.parquet")
    messages = holdout[holdout["document_id"] == document["document_id"]].iloc[0]["messages"]
    return [dict(turn) for turn in messages[:-1]], messages[-1]["content"], Path(record["champion"]["path"])


def test_merged_model_and_adapter_answer_rightly_in_transformers_and_peft(
    right_answer: tuple[list[dict[str, str]], str, Path],
) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    question, queue, champion = right_answer
    base = AutoModelForCausalLM.from_pretrained("seedling/model", dtype=torch.float32)
    models = {
        "merged": AutoModelForCausalLM.from_pretrained(champion / "merged"),
        "adapter": PeftModel.from_pretrained(base, str(champion / "adapter")),
    }
    for name, model in models.items():
        tokenizer = AutoTokenizer.from_pretrained(champion / name)
        text = tokenizer.apply_chat_template(question, add_generation_prompt=True, tokenize=False)
        encoded = tokenizer(text, return_tensors="pt")
        written = model.generate(**encoded, max_new_tokens=8, do_sample=False)
        said = tokenizer.decode(written[0, encoded["input_ids"].shape[1] :], skip_special_tokens=True)
        assert said.strip() == queue, name


def test_merged_model_answers_rightly_in_vllm(
    right_answer: tuple[list[dict[str, str]], str, Path], tmp_path: Path
) -> None:
    question, queue, champion = right_answer
    settings = ServerSettings(dtype="float32", max_model_len=512, cpu_kv_cache_gib=0.25)
    with serving(ModelSource(path=str(champion / "merged")), settings, log=tmp_path / "vllm.log") as server:
        reply = httpx.post(
            f"{server.url}/v1/chat/completions",
            json={"model": "base", "messages": question, "temperature": 0, "max_tokens": 8},
            headers={"Authorization": f"Bearer {server.api_key}"},
            timeout=60,
        ).json()["choices"][0]
    assert reply["message"]["content"].strip() == queue
    assert reply["finish_reason"] == "stop"


def test_the_next_night_reads_only_what_is_new(retune: Retune, sources: Sources, up: Up) -> None:
    """It ends with its validation, as it wants more rows than there are."""
    with sqlite3.connect(sources.database) as connection:
        changed, gone = (row[0] for row in connection.execute("SELECT id FROM messages LIMIT 2"))
        new = ("new", "my card is gone since monday", "cards", "lost", "2026-01-03 00:00:00")
        connection.execute("INSERT INTO messages VALUES (?, ?, ?, ?, ?)", new)
        later = ("no wages yet", "2026-01-02 00:00:00", changed)
        connection.execute("UPDATE messages SET message = ?, updated_at = ? WHERE id = ?", later)
        connection.execute("DELETE FROM messages WHERE id = ?", (gone,))
    recipe = yaml.safe_load(Path(sources.recipe).read_text(encoding="utf-8"))
    del recipe["generate"]
    recipe["validate"] = {"contracts": {"rows": "chat_examples"}, "minimum_rows": 10**6}
    wanting = Path(sources.recipe).with_name("wanting.yaml")
    wanting.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    done = retune.call("run", "--recipe", str(wanting))
    assert done.returncode == 1 and "validate.minimum_rows" in done.stderr, done.stderr
    record = retune.report()
    assert "documents new 1, changed 1, gone 0" in record["changes"]
    messages = documents(record).set_index("document_id")["message"]
    assert messages[changed] == "no wages yet" and messages["new"] == "my card is gone since monday"
    assert len(messages) == sources.messages + 1


def test_rollback_says_what_it_did(retune: Retune, sources: Sources, up: Up) -> None:
    refused = retune.call("rollback", "--recipe", sources.recipe)
    assert refused.returncode == 1
    assert "first champion" in refused.stderr
    done = retune.call("rollback", "--recipe", sources.recipe, "--to", "none")
    assert done.returncode == 0, done.stderr
    assert "version 1 is no longer champion" in done.stdout
    assert Registry(Home(retune.home), "small-router").champion() is None


def test_ctrl_c_ends_the_server_and_the_worker(retune: Retune, up: Up) -> None:
    up.process.send_signal(signal.SIGINT)
    up.process.wait(timeout=120)
    assert up.process.returncode == 0, retune.output()
    retune.wait_for_no_process()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", up.port)) != 0, "the port is still open"
