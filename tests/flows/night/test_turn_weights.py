"""What a row's keys say of its turns holds from the file to the labels of the training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from flows.night.jobs import collect_job, documents_job, validate_job
from flows.recipe.read import read_recipe
from flows.report.stage_lines import collect_lines
from tasks.core.artifacts import ArtifactRef
from tasks.core.details import CollectDetails
from tasks.core.home import Home
from tasks.core.stage import StageJob, run_stage
from tasks.train.config import TrainConfig
from tasks.train.masking import mark_trained
from tasks.train.training_rows import prepare_rows
from tests.flows.conftest import WriteRecipe
from tests.tiny_model import tiny_tokenizer
from tests.unit.validate.tables import expectation, write_contract

ROWS = 24
ANYTHING = expectation("expect_table_row_count_to_be_between", {"min_value": 1}, name="some")


def chat(number: int) -> dict[str, Any]:
    turns = [f"What does ticket {number} cost?", f"A guess: {number}.", "Look again.", f"It costs {number + 7} euros."]
    messages: list[dict[str, Any]] = [
        {"role": ("user", "assistant")[at % 2], "content": text} for at, text in enumerate(turns)
    ]
    messages[1] |= {"train": False, "reasoning_content": "hm"}
    return {"messages": messages, "images": []}


def unusable(number: int) -> list[dict[str, Any]]:
    row = chat(number)
    nothing = [{**turn, "train": False} if turn["role"] == "assistant" else turn for turn in row["messages"]]
    return [{**row, "label": False}, {**row, "images": ["a.png"]}, {"messages": nothing}]


def test_a_turn_that_is_not_to_be_learned_reaches_the_training_as_context(
    tmp_path: Path, write_recipe: WriteRecipe
) -> None:
    rows = [*map(chat, range(ROWS)), *unusable(99)]
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    for name in ("documents", "evaluations", "training_set"):
        write_contract(tmp_path / f"{name}.odcs.yaml", [{"name": "user_text"}], [ANYTHING], name)

    def change(recipe: dict[str, Any]) -> None:
        recipe["generate"] = None
        recipe["task"].pop("labels", None)
        recipe["collect"]["sources"] = [{"path": "chats.jsonl"}]
        recipe["collect"]["columns"] = {}
        recipe["collect"].pop("id_column", None)
        contracts = {name: f"{name}.odcs.yaml" for name in ("documents", "evaluations", "training_set")}
        recipe["validate"] = {
            "contamination": {"similarity": 1.0},
            "contracts": contracts,
            "near_duplicates": {"threshold": 1.0},
        }

    recipe, home = read_recipe(write_recipe(change)), Home(tmp_path / "home")

    def run(job: StageJob) -> ArtifactRef:
        return run_stage(job, home, "run").ref

    collected = run(collect_job(recipe, home))
    details = collected.details(CollectDetails)
    assert details.rules == {"preference": 1, "media": 1, "weight": 1}
    assert details.ignored == {"messages[].reasoning_content": ROWS}
    assert f"Not read from the sources (rows): messages[].reasoning_content {ROWS}." in collect_lines(details, "x")
    documents = run(documents_job(recipe, collected))
    validated = run(validate_job(recipe, collected, documents, None))
    stored = pq.read_table(validated.folder / "training_set.parquet")
    weights = {tuple(turn["weight"] for turn in turns[-4:]) for turns in stored["messages"].to_pylist()}
    assert weights == {(None, 0, None, None)}
    tokenizer = tiny_tokenizer()
    config = TrainConfig.model_validate({"max_steps": 10, "max_length": 1024})
    prepared = prepare_rows(validated.folder / "training_set.parquet", config, tokenizer, 7, 1.0, tmp_path)
    assert prepared.counts["accepted"] == stored.num_rows > 0
    for row in prepared.rows:
        shown = mark_trained(row["input_ids"], row["labels"], tokenizer)
        assert "\nA guess: " in shown and "[[It costs " in shown and shown.count("[[") == 1
