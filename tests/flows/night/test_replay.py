"""A recipe of a closed set of labels that replays general conversations: they are no label, and are not asked."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from flows.night.data_checks import require_holdout
from flows.night.jobs import collect_job, documents_job, validate_job
from flows.recipe.read import read_recipe
from flows.recipe.recipe import Recipe
from tasks.core.artifacts import ArtifactRef
from tasks.core.errors import ContractViolation
from tasks.core.home import Home
from tasks.core.stage import StageJob, run_stage
from tests.flows.conftest import WriteRecipe
from tests.unit.validate.tables import expectation, write_contract

QUEUES = ("cards", "payroll")
MESSAGES, CHATS = 60, 40
ANYTHING = expectation("expect_table_row_count_to_be_between", {"min_value": 1}, name="some")


class World:
    """A recipe without generation, and its RETUNE_HOME."""

    def __init__(self, folder: Path, write_recipe: WriteRecipe) -> None:
        self.folder, self.write_recipe, self.home = folder, write_recipe, Home(folder / "home")
        messages = "".join(
            f"{number},Message {number} of somebody,{QUEUES[number % 2]}\n" for number in range(MESSAGES)
        )
        (folder / "tickets.csv").write_text(f"id,message,queue\n{messages}", encoding="utf-8")
        chats = [
            {"id": f"c{number}", "messages": [{"role": "user", "content": f"Tell me about river {number}"},
                                              {"role": "assistant", "content": f"It is {number} miles long."}]}
            for number in range(CHATS)
        ]  # fmt: skip
        (folder / "chats.jsonl").write_text("".join(json.dumps(chat) + "\n" for chat in chats), encoding="utf-8")
        for name in ("documents", "evaluations", "training_set"):
            write_contract(folder / f"{name}.odcs.yaml", [{"name": "user_text"}], [ANYTHING], name)

    def recipe(self, replay: list[str], **gate: Any) -> Recipe:
        def change(recipe: dict[str, Any]) -> None:
            recipe["generate"] = None
            recipe["task"]["labels"] = list(QUEUES)
            recipe["collect"]["sources"] = [{"path": "tickets.csv"}, {"path": "chats.jsonl", "form": "openai"}]
            recipe["collect"]["columns"] = {"message": "message", "queue": "queue"}
            contracts = {name: f"{name}.odcs.yaml" for name in ("documents", "evaluations", "training_set")}
            recipe["validate"] = {
                "contracts": contracts,
                "minimum_rows_per_label": 2,
                "near_duplicates": {"threshold": 1.0},
                "contamination": {"similarity": 1.0},
            }
            recipe["train"]["mix"] = {"replay": replay}
            recipe["evaluate"]["gate"] = gate

        return read_recipe(self.write_recipe(change))

    def run(self, job: StageJob) -> ArtifactRef:
        return run_stage(job, self.home, "run").ref

    def documents(self, recipe: Recipe) -> tuple[ArtifactRef, ArtifactRef]:
        collected = self.run(collect_job(recipe, self.home))
        return collected, self.run(documents_job(recipe, collected))


@pytest.fixture
def world(tmp_path: Path, write_recipe: WriteRecipe) -> World:
    return World(tmp_path, write_recipe)


def test_its_answers_are_no_labels_and_have_no_floor(world: World) -> None:
    recipe = world.recipe(["chats.jsonl"])
    collected, documents = world.documents(recipe)
    assert collected.manifest()["summary"]["quarantined"] == 0
    assert set(collected.manifest()["summary"]["details"]["labels"]) == set(QUEUES)
    validated = world.run(validate_job(recipe, collected, documents, None))
    details = validated.manifest()["summary"]["details"]
    assert set(details["floors"]) == {"minimum_rows", *QUEUES} and set(details["labels"]) == set(QUEUES)
    sources = pq.read_table(validated.folder / "training_set.parquet")["source"].to_pylist()
    assert set(sources) == {"tickets.csv", "chats.jsonl"}


def test_a_source_that_is_not_replayed_has_to_answer_with_labels(world: World) -> None:
    collected, _ = world.documents(world.recipe(["tickets.csv"]))
    assert collected.manifest()["summary"]["details"]["rules"] == {"unknown_label": CHATS}


def test_its_held_out_documents_do_not_make_a_holdout_large_enough(world: World) -> None:
    recipe = world.recipe(["chats.jsonl"])
    collected, documents = world.documents(recipe)
    held = pq.read_table(documents.folder / "holdout.parquet")["source"].to_pylist()
    asked = held.count("tickets.csv")
    assert 0 < asked < len(held)
    for needed in (asked, asked + 1):
        recipe = world.recipe(["chats.jsonl"], minimum_rows=needed)
        if needed == asked:
            require_holdout(recipe, collected, documents)
            continue
        with pytest.raises(ContractViolation, match=f"has {asked} conversations without those of replay sources"):
            require_holdout(recipe, collected, documents)


def test_without_replay_or_labels_no_key_is_another(world: World) -> None:
    plain, replaying = world.recipe([]), world.recipe(["chats.jsonl"])
    keys = [collect_job(recipe, world.home).key().hex for recipe in (plain, replaying)]
    assert keys[0] != keys[1]
    free = [
        replace(collect_job(recipe, world.home), task=recipe.task.model_copy(update={"labels": ()})).key().hex
        for recipe in (plain, replaying)
    ]
    assert free[0] == free[1], "nothing is refused for its label"
