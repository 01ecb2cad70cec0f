"""One small night with every real part: killed, robbed of its vLLM, interrupted, finished, published, rolled back.

The tests share one RETUNE_HOME and run in this order: each goes on from where the one before left it.
"""

from __future__ import annotations

import json
import re
import signal
import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import pandas as pd
import psutil
import pytest

from flows.report.record import COUNTS
from tasks.core.config import ModelSource, ServerSettings
from tasks.core.home import Home
from tasks.core.vllm.server import serving
from tasks.publish.registry import Registry
from tests.e2e.conftest import RECIPES, Retune, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

RECIPE = str(RECIPES / "small.yaml")
START_SECONDS = 300
ANSWERS_BEFORE_KILL = 40


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


def test_a_kill_in_the_middle_of_generation_leaves_no_process_and_keeps_the_answers(retune: Retune) -> None:
    process = retune.start("run", "--recipe", RECIPE)
    wait_until(
        lambda: answers(retune.home) >= ANSWERS_BEFORE_KILL or process.poll() is not None, START_SECONDS, retune.output
    )
    assert process.poll() is None, retune.output()
    process.send_signal(signal.SIGKILL)
    process.wait()
    retune.wait_for_no_process()
    assert answers(retune.home) >= ANSWERS_BEFORE_KILL
    assert retune.report()["status"] == "failed"


def test_a_vllm_killed_in_the_middle_is_started_again_and_ctrl_c_in_training_leaves_a_checkpoint(
    retune: Retune,
) -> None:
    before = answers(retune.home)
    process = retune.start("run", "--recipe", RECIPE)

    def answered_more() -> bool:
        return answers(retune.home) >= before + ANSWERS_BEFORE_KILL or process.poll() is not None

    def checkpointed() -> bool:
        return any(retune.home.glob("work/train/*/**/checkpoint.json")) or process.poll() is not None

    wait_until(answered_more, START_SECONDS, retune.output)
    for child in psutil.Process(process.pid).children(recursive=True):
        if child.cmdline()[1:3] == ["-m", "vllm.entrypoints.openai.api_server"]:
            child.kill()
    wait_until(checkpointed, START_SECONDS, retune.output)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130, retune.output()
    assert "interrupted" in retune.output()
    assert retune.processes() == []
    assert retune.report()["status"] == "failed"
    generated = details(retune.report(), "generate")
    assert generated["reused"] >= before, "answered rows were asked again"
    assert generated["asked"] + generated["reused"] == answers(retune.home)
    stats = generated["stats"]
    assert (stats["restarts"], stats["failed"]) == (1, 0)
    assert 0 < stats["first_token_seconds"]["p50"] <= stats["latency_seconds"]["p50"]


def test_the_next_run_resumes_training_and_publishes_once(retune: Retune) -> None:
    done = retune.call("run", "--recipe", RECIPE)
    assert done.returncode == 0, done.stderr
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
    for text in ("published", "95% interval", "champion: small-router version 1"):
        assert text in done.stdout
    retune.wait_for_no_process()


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


def test_the_same_night_again_is_a_no_op(retune: Retune) -> None:
    done = retune.call("run", "--recipe", RECIPE)
    assert done.returncode == 0, done.stderr
    record = retune.report()
    assert record["status"] == "no-op"
    assert all(stage["cached"] for stage in record["stages"].values())
    assert len(Registry(Home(retune.home), "small-router").versions()) == 1
    retune.wait_for_no_process()


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


def test_rollback_says_what_it_did(retune: Retune) -> None:
    refused = retune.call("rollback", "--recipe", RECIPE)
    assert refused.returncode == 1
    assert "first champion" in refused.stderr
    done = retune.call("rollback", "--recipe", RECIPE, "--to", "none")
    assert done.returncode == 0, done.stderr
    assert "version 1 is no longer champion" in done.stdout
    assert Registry(Home(retune.home), "small-router").champion() is None
