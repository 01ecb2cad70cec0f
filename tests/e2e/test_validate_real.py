"""The three boundaries on real data: CLINC150's splits and Alpaca's demo rows, with contracts of their own.

What has to be found is worked out here, plainly and slowly, from the files themselves.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd
import pytest

from flows.night.jobs import collect_job, documents_job, training_set_job, validate_job
from flows.recipe.read import read_recipe
from tasks.core.artifacts import ArtifactRef
from tasks.core.home import PROJECT_ROOT, Home
from tasks.core.stage import StageJob, run_stage
from tasks.validate.check_training_set import Publications
from tasks.validate.normal_form import normalise, normalise_texts
from tests.e2e.conftest import RECIPES

DATA = PROJECT_ROOT.parent / "shared" / "data"
REAL_DATA = pytest.mark.skipif(not DATA.is_dir(), reason="the real data sets are not part of the project")
pytestmark = [pytest.mark.slow, REAL_DATA]


@dataclass(frozen=True)
class Checked:
    """The artifacts of one recipe's boundaries, by stage."""

    artifacts: dict[str, ArtifactRef]

    def table(self, stage: str, name: str) -> pd.DataFrame:
        return pd.read_parquet(self.artifacts[stage].folder / f"{name}.parquet")

    def quarantined(self, stage: str) -> dict[str, set[str]]:
        """By rule, the ids of the rows that broke it; warnings beside a critical rule among them."""
        found = defaultdict(set)
        for row in self.table(stage, "quarantine").to_dict("records"):
            for breach in row["breaches"]:
                found[breach["rule"]].add(row["row_id"])
        return dict(found)


def check(recipe_name: str, home: Home) -> Checked:
    """Collect, check the documents, validate, check the training set."""
    recipe = read_recipe(str(RECIPES / f"{recipe_name}.yaml"))
    artifacts: dict[str, ArtifactRef] = {}

    def run(job: StageJob) -> ArtifactRef:
        ref = run_stage(job, home, "real").ref
        artifacts[ref.stage] = ref
        return ref

    collected = run(collect_job(recipe, home))
    documents = run(documents_job(recipe, collected))
    validated = run(validate_job(recipe, collected, documents, None))
    run(training_set_job(recipe, validated, Publications()))
    return Checked(artifacts)


@pytest.fixture(scope="module")
def clinc150(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checked]:
    yield check("validate_clinc150", Home(tmp_path_factory.mktemp("clinc150")))


@pytest.fixture(scope="module")
def alpaca(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checked]:
    yield check("validate_alpaca", Home(tmp_path_factory.mktemp("alpaca")))


def questions(rows: pd.DataFrame) -> pd.Series:
    """What the user said in each row, normalised, by its id."""
    said = rows["messages"].map(lambda turns: "\n".join(turn["content"] for turn in turns if turn["role"] == "user"))
    ids = "example_id" if "example_id" in rows else "document_id"
    return pd.Series(normalise_texts(said.to_list()).to_pylist(), index=rows[ids])


def test_counts_balance_and_every_row_is_in_one_table(clinc150: Checked, alpaca: Checked) -> None:
    for checked in (clinc150, alpaca):
        documents = checked.artifacts["check_documents"].manifest()["summary"]
        validated = checked.artifacts["validate"].manifest()["summary"]
        assert validated["rows_in"] == documents["details"]["conversations"]["train"]
        tables = ("training_set", "quarantine", "duplicates", "contaminated")
        counts = ("accepted", "quarantined", "duplicates", "contaminated")
        ids = pd.concat([checked.table("validate", name).iloc[:, 0] for name in tables])
        assert [len(checked.table("validate", name)) for name in tables] == [validated[name] for name in counts]
        assert sorted(ids) == sorted(checked.table("check_documents", "train")["document_id"])


def test_no_message_of_another_split_is_left_to_train_on_in_clinc150(clinc150: Checked) -> None:
    train = questions(clinc150.table("check_documents", "train"))
    left = set(questions(clinc150.table("validate", "training_set")))
    for split in ("validation", "test"):
        texts = set(normalise_texts(pd.read_csv(DATA / "clinc150" / f"{split}.csv")["text"].to_list()).to_pylist())
        assert texts & set(train), "there is nothing to find"
        assert not texts & left
    held_out = set(questions(clinc150.table("collect", "holdout")))
    assert not held_out & left


def test_what_is_set_aside_as_a_leak_of_clinc150_says_nearly_what_the_evaluation_asks(clinc150: Checked) -> None:
    leaks = clinc150.table("validate", "contaminated")
    assert set(leaks["set"]) == {"holdout", "validation", "test"}
    for row in leaks.to_dict("records"):
        asked = set(normalise(row["evaluation_text"]).split())
        assert len(set(normalise(row["text"]).split()) & asked) >= 0.4 * len(asked), row


def test_messages_that_differ_in_punctuation_alone_train_once_in_clinc150(clinc150: Checked) -> None:
    train = questions(clinc150.table("check_documents", "train"))
    left = questions(clinc150.table("validate", "training_set"))
    assert train.duplicated().any(), "there is nothing to find"
    assert not left.duplicated().any()


def test_what_is_no_instruction_for_a_text_assistant_is_quarantined_in_alpaca(alpaca: Checked) -> None:
    collected = pd.concat([alpaca.table("collect", name) for name in ("train", "holdout")])
    said_nothing = collected[collected["input"].fillna("").str.contains("no ?input", case=False, regex=True)]
    assert len(said_nothing) == 8
    found = alpaca.quarantined("check_documents")
    assert found["no placeholder for an input"] == set(said_nothing["document_id"])
    answers = collected.set_index("document_id")["output"]
    refusals = [answers[name] for name in found["no refusal"]]
    assert refusals
    assert all(" AI" in answer or "sorry" in answer for answer in refusals)
    assert "says nothing over and over" not in found


def test_the_same_instruction_with_two_answers_is_one_document_in_alpaca(alpaca: Checked) -> None:
    assert alpaca.artifacts["collect"].manifest()["summary"]["duplicates"] == 14
    assert not questions(alpaca.table("validate", "training_set")).duplicated().any()
