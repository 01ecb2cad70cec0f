"""Rows that training and evaluation set aside are listed, traced and counted as those of the stages before."""

from __future__ import annotations

import copy
from pathlib import Path

import pandas as pd
import pytest

from flows.report.page import report_markdown
from flows.report.record import RunRecord, rows_table
from flows.report.waterfall_tables import waterfall_by_prompt, waterfall_of, waterfall_table
from retune.quarantine.counts import Line, count_lost_rows
from retune.quarantine.lost_rows import FILES
from retune.quarantine.row_trace import trace_row
from retune.quarantine.run_files import RunFiles, find_run
from retune.quarantine.samples import sample_lost_rows
from tasks.core import tables
from tasks.core.answer_store import Answer
from tasks.core.artifacts import ArtifactStore, StageKey, Summary
from tasks.core.details import EvaluateDetails, TrainDetails
from tasks.core.errors import ContractViolation
from tasks.core.home import Home
from tasks.core.stage import StageContext
from tasks.evaluate.answers import read_conversations, refused_rows
from tasks.evaluate.inference import Replies
from tasks.train.config import TrainConfig
from tasks.train.training_rows import prepare_rows
from tests.flows.small_night import SmallNight
from tests.flows.whole_night import comparison
from tests.tiny_model import tiny_tokenizer

LastNight = tuple[SmallNight, RunRecord]
TOKENIZER = tiny_tokenizer()


def train(record: RunRecord, home: Home, rows: str = "training_set", part: str = "") -> str:
    """Prepare the rows of the run's training set, of which one is too long; returns its id."""
    training_set = Path(record.stages["validate"]["path"]) / tables.TRAINING_SET
    whole = prepare_rows(training_set, TrainConfig(max_steps=10, max_length=4096), TOKENIZER, 7, 1.0, home.root)
    lengths = [len(row["input_ids"]) for row in whole.rows]
    config = TrainConfig(max_steps=10, max_length=max(lengths) - 1)

    def fill(folder: Path) -> Summary:
        done = prepare_rows(training_set, config, TOKENIZER, 7, 1.0, folder)
        details = TrainDetails(
            method="qlora", steps=1, trainable_parameters=1, trained_token_share=0.5, over_length={"dropped": 1}
        )
        return Summary(**done.counts, details=details)  # type: ignore[arg-type]

    key = StageKey("train", 4, {"train": {"rows": rows}, "part": part})
    ref = ArtifactStore(home.artifacts).write(key, fill)
    record.stage(f"train {part}".strip(), ref, 1.0, False)
    (row_id,) = pd.read_parquet(ref.folder / tables.QUARANTINE)["row_id"]
    return str(row_id)


def evaluate(record: RunRecord, home: Home) -> str:
    """Ask two models for the holdout, of which one question is refused; returns its document's id."""
    holdout, _ = read_conversations(Path(record.stages["check_documents"]["path"]) / tables.HOLDOUT, None)
    replies = [Answer("r", "cards", "stop", 1, 1) for _ in range(len(holdout))]
    refused = [Answer("r", "", "refused: too long", 1, 0), *replies[1:]]

    def fill(folder: Path) -> Summary:
        found = refused_rows(holdout, Replies({"base": replies, "candidate": refused}, {}, None))
        found.to_parquet(folder / tables.QUARANTINE, index=False)
        details = EvaluateDetails(**comparison())
        return Summary(len(holdout), len(holdout) - len(found), len(found), details=details)

    record.stage("evaluate", ArtifactStore(home.artifacts).write(StageKey("evaluate", 1, {}), fill), 1.0, False)
    return str(holdout["document_id"][0])


@pytest.fixture
def home(tmp_path: Path) -> Home:
    (tmp_path / "home").mkdir()
    return Home(tmp_path / "home")


@pytest.fixture
def record(last_night: LastNight, home: Home) -> RunRecord:
    """A run that goes on after the stages of the last night."""
    record = RunRecord.start(home, "mine", "")
    record.stages = copy.deepcopy(last_night[1].stages)
    return record


def files_of(home: Home) -> RunFiles:
    return find_run(home, None)


def test_rows_that_training_set_aside_are_listed_sampled_and_traced(
    record: RunRecord, home: Home, no_picture: None
) -> None:
    row_id = train(record, home)
    assert count_lost_rows(files_of(home)).lines[-1] == Line(
        "train", "quarantined", "too_long", "write", "messages.csv", 1
    )
    (sampled,) = sample_lost_rows(files_of(home), stage="train").rows
    assert sampled.row_id == row_id and sampled.reasons[0].rule == "too_long" and sampled.reasons[0].said.isdigit()
    found = trace_row(files_of(home), home, row_id)
    assert (found.row.stage, found.row.outcome) == ("train", "quarantined")
    assert [role for role, _ in found.row.turns] == ["system", "user", "assistant"]
    assert found.written is not None and found.document is not None
    assert found.row.raw and not found.row.raw.startswith("["), "the teacher's own answer"


def test_the_counts_of_all_stages_are_those_of_the_report_and_balance(
    record: RunRecord, home: Home, no_picture: None
) -> None:
    train(record, home)
    train(record, home, part="0.5")
    evaluate(record, home)
    counts = count_lost_rows(files_of(home)).rows
    assert list(counts)[-3:] == ["train", "train 0.5", "evaluate"]
    for stage in rows_table(record):
        assert stage["rows_in"] == stage["accepted"] + sum(stage[outcome] for outcome in FILES)
        for outcome in FILES:
            assert counts.get(stage["stage"], {}).get(outcome, 0) == stage[outcome]


def test_the_waterfall_ends_with_the_rows_that_were_trained_on(record: RunRecord, home: Home, no_picture: None) -> None:
    before = waterfall_of(record)
    assert before is not None and before.total.kept == record.stages["validate"]["accepted"]
    train(record, home)
    for found in (waterfall_of(record), waterfall_by_prompt(record)):
        assert found is not None and found.total.lost["trained"] == {"too_long": 1}
        assert found.total.kept == record.stages["train"]["accepted"]
    assert waterfall_table(record)[0]["trained, kept"] == record.stages["train"]["accepted"]
    assert "too_long 1" in waterfall_table(record)[0]["lost to"]
    assert Path(record.stages["validate"]["picture"]).parent == Path(record.folder), "drawn again, with the training"
    assert "Training set aside: too_long 1." in report_markdown(record)


def test_the_waterfall_does_not_count_rows_of_the_control_set(record: RunRecord, home: Home) -> None:
    train(record, home, rows="control")
    found = waterfall_of(record)
    assert found is not None and "trained" not in found.total.lost


def test_documents_that_evaluation_set_aside_are_listed_and_traced(record: RunRecord, home: Home) -> None:
    document_id = evaluate(record, home)
    (line,) = [line for line in count_lost_rows(files_of(home)).lines if line.stage == "evaluate"]
    assert line == Line("evaluate", "quarantined", "refused by the server", "(held out)", "messages.csv", 1)
    found = trace_row(files_of(home), home, document_id)
    assert found.row.stage == "evaluate" and "candidate: refused: too long" in found.row.reasons[0].said
    assert found.document is not None
    assert "Evaluation set aside: refused by the server 1." in report_markdown(record)


def test_rows_of_a_stage_that_stopped_the_run_are_listed_from_its_evidence(record: RunRecord, home: Home) -> None:
    row_id = train(record, home, rows="control")
    folder = Path(record.stages.pop("train")["path"])
    StageContext(home, record.run_id, "key").keep_quarantine("train", folder)
    record.fail(ContractViolation("None of the rows can be used"))
    assert set(record.evidence) == {"train"}
    assert trace_row(files_of(home), home, row_id).row.stage == "train"
