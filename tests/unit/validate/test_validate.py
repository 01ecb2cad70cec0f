"""The stage as a whole: every row ends in one place, for a reason that can be read."""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.artifacts import ArtifactRef, Summary
from tasks.core.details import ValidateDetails
from tasks.core.errors import ContractViolation
from tasks.core.home import Home
from tasks.core.messages import plain
from tasks.core.stage import StageContext, run_stage
from tasks.validate.check_documents import CheckDocumentsJob
from tasks.validate.config import Contamination, Contracts, EvaluationSet, ValidateConfig
from tasks.validate.contracts.rule import ContractContext
from tasks.validate.validate import ValidateJob
from tests.unit.validate.tables import (
    COLLECTED_COLUMNS,
    FIELDS,
    GENERATED_COLUMNS,
    Row,
    conversation,
    document,
    expectation,
    write_contract,
    write_no_lost_documents,
    write_table,
    written,
)

pytestmark = pytest.mark.usefixtures("no_picture")

Inputs = Callable[[list[Row], list[Row], list[Row]], tuple[ArtifactRef, ArtifactRef]]
TRAIN = [document("d1", "please freeze my lost card now"), document("d2", "when does my salary arrive", "payroll")]
HOLDOUT = [document("h1", "is my flight to Rome still on time today", "flights")]
TEXT_RULE: Row = {
    "name": "message", "logicalType": "string", "required": True, "logicalTypeOptions": {"minLength": 8}
}  # fmt: skip
QUEUE_RULE: Row = {"name": "queue", "enum": [{"value": name} for name in ("cards", "payroll", "flights", "dining")]}
PROPERTIES: list[Row] = [{"name": "row_id", "required": True, "unique": True}, TEXT_RULE, QUEUE_RULE]
LENGTH, CLOSED = "message.expect_column_value_lengths_to_be_between", "queue.expect_column_values_to_be_in_set"
MISSING = "message.expect_column_values_to_not_be_null"
OUT = ("training_set", "quarantine", "duplicates", "contaminated")


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., ValidateConfig]:
    """The recipe's section with contracts of these rules: on generated rows, and on the training set."""

    def make(
        quality: list[Row] | None = None, training_set: list[Row] | None = None, **settings: Any
    ) -> ValidateConfig:
        rows = write_contract(tmp_path / "rows.odcs.yaml", PROPERTIES, quality)
        everything = write_contract(tmp_path / "set.odcs.yaml", training_set or [TEXT_RULE], name="training set")
        return ValidateConfig(contracts=Contracts(rows=str(rows), training_set=str(everything)), **settings)

    return make


def new_job(
    config: ValidateConfig, collected: ArtifactRef, generated: ArtifactRef | None, **changes: Any
) -> ValidateJob:
    """A job whose documents all kept their contracts."""
    documents = replace(collected, stage="check_documents", digest=f"checked {collected.digest}")
    return replace(ValidateJob(config, collected, documents, generated, FIELDS, ContractContext()), **changes)


def read(table: Path) -> list[Row]:
    rows: list[Row] = pq.read_table(table).to_pylist()
    return rows


def run(job: ValidateJob, tmp_path: Path) -> tuple[Summary, Path]:
    result = run_stage(job, Home(tmp_path / "home"), "run-1")
    summary = {**result.ref.manifest()["summary"], "details": result.ref.details(ValidateDetails)}
    return Summary(**summary), result.ref.folder


def test_the_same_words_under_another_system_turn_or_with_other_tools_are_another_row(
    inputs: Inputs, config: Callable[..., ValidateConfig], tmp_path: Path
) -> None:
    def asked(name: str, system: str, tools: str | None, message: str = "how do I get to the next bus stop") -> Row:
        turns = [{"role": "system", "content": system}] if system else []
        row = document(name, message)
        return {**row, "messages": turns + row["messages"], "tools": tools}

    bus, tram = (json.dumps([{"type": "function", "function": {"name": name}}]) for name in ("bus", "tram"))
    train = [
        asked("d1", "Answer in French.", None),
        asked("d2", "Answer in Spanish.", None),
        asked("d3", "answer in  FRENCH", "[]"),
        asked("d4", "", bus),
        asked("d5", "", tram),
        asked("d6", "", bus.replace(" ", "")),
        asked("d7", "", None),
        asked("d8", "Answer in French.", bus),
        asked("d9", "Answer in Polish.", None),
    ]
    holdout = [asked("h1", "Answer in Polish.", None)]
    refs = inputs(train, holdout, [])
    for table, rows in (("train", train), ("holdout", holdout)):
        write_table(tmp_path / "collect" / f"{table}.parquet", rows, (*COLLECTED_COLUMNS, "tools"))
    _, folder = run(new_job(config(), *refs), tmp_path)
    repeated = read(folder / "duplicates.parquet")
    assert [(row["row_id"], row["kind"], row["duplicate_of"]) for row in repeated] == [
        ("d3", "exact", "d1"),
        ("d6", "exact", "d4"),
    ]
    # A question without a system turn and tools may be the held-out one.
    assert [row["row_id"] for row in read(folder / "contaminated.parquet")] == ["d7", "d9"]
    assert [row["example_id"] for row in read(folder / "training_set.parquet")] == ["d1", "d2", "d4", "d5", "d8"]


def test_every_row_ends_where_it_belongs(inputs: Inputs, config: Callable[..., ValidateConfig], tmp_path: Path) -> None:
    rows = [
        written("r1", "Please, freeze my LOST card now!"),
        written("r2", "please freeze my lost card now ok"),
        written("r3", "Is my flight to Rome still on time today??", "flights"),
        written("r4", "hi", "unicorn", prompt="vary"),
        written("r5", None, "dining", prompt="vary"),
        written("r6", "我想订一张四个人的桌子 🎉", "dining", prompt="vary"),
        written("r7", "هل يمكنني حجز طاولة الليلة", "dining", prompt="vary"),
    ]
    summary, folder = run(new_job(config(), *inputs(TRAIN, HOLDOUT, rows)), tmp_path)
    training = read(folder / "training_set.parquet")
    assert [row["example_id"] for row in training] == ["d1", "d2", "r6", "r7"]
    assert plain(training[2]["messages"])[0] == {"role": "user", "content": "我想订一张四个人的桌子 🎉"}
    lineage = [[row[name] for name in ("origin", "source", "prompt", "teacher", "seed")] for row in training[1:3]]
    assert lineage == [["collected", "s.csv", "", "", 0], ["generated", "s.csv", "vary", "seedling", 7]]
    rejected = read(folder / "quarantine.parquet")
    assert [[row[name] for name in ("row_id", "raw", "prompt", "document_id")] for row in rejected] == [
        ["r4", "hi", "vary", "d1"],
        ["r5", "", "vary", "d1"],
    ]
    broken = [[(breach["rule"], breach["value"]) for breach in row["breaches"]] for row in rejected]
    assert broken == [[(LENGTH, "hi"), (CLOSED, "unicorn")], [("messages: an empty turn", ""), (MISSING, "null")]]
    (leak,) = read(folder / "contaminated.parquet")
    assert (leak["row_id"], leak["set"], leak["evaluation_id"]) == ("r3", "holdout", "h1")
    repeated = read(folder / "duplicates.parquet")
    assert [[row[name] for name in ("row_id", "kind", "duplicate_of", "text", "original")] for row in repeated] == [
        ["r1", "exact", "d1", "Please, freeze my LOST card now!", "please freeze my lost card now"],
        ["r2", "near", "d1", "please freeze my lost card now ok", "please freeze my lost card now"],
    ]
    counts = (summary.rows_in, summary.accepted, summary.quarantined, summary.contaminated, summary.duplicates)
    assert counts == (9, 4, 2, 1, 2)
    assert summary.details.rules == {"messages: an empty turn": 1, LENGTH: 1, CLOSED: 1, MISSING: 1}
    assert summary.details.labels == {"cards": 1, "dining": 2, "payroll": 1}
    assert summary.details.contamination == {"holdout": 1}
    assert summary.details.duplicate_kinds == {"exact": 1, "near": 1}
    nothing_lost = {"quarantined": 0, "contaminated": 0, "duplicates": 0}
    assert summary.details.by_prompt == {
        "(collected)": {"rows_in": 2, "accepted": 2, **nothing_lost},
        "vary": {"rows_in": 4, "accepted": 2, **nothing_lost, "quarantined": 2},
        "write": {"rows_in": 3, "accepted": 0, "quarantined": 0, "contaminated": 1, "duplicates": 2},
    }
    assert summary.details.by_source == {
        "s.csv": {"rows_in": 9, "accepted": 4, "quarantined": 2, "contaminated": 1, "duplicates": 2}
    }
    for contract in ("rows", "training_set"):
        assert (folder / "report" / "data_docs" / contract / "index.html").is_file()
    assert json.loads((folder / "profile.json").read_text())["rows"] == 4
    steps = json.loads((folder / "waterfall.json").read_text())["groups"]
    assert sum(group["kept"] for group in steps) == 4


def test_collected_rows_answer_to_the_training_set_s_contract_alone(
    inputs: Inputs, config: Callable[..., ValidateConfig], tmp_path: Path
) -> None:
    """The contract of generated rows wants an id that is there once, and a queue that it knows."""
    train = [document("d1", "please freeze my lost card now", "elsewhere"), document("d2", "hi", "elsewhere")]
    rows = [written("r1", "a table for four please", "elsewhere"), written("d1", "when does my salary arrive")]
    summary, folder = run(new_job(config(), *inputs(train, HOLDOUT, rows)), tmp_path)
    broken = {row["row_id"]: [b["contract"] for b in row["breaches"]] for row in read(folder / "quarantine.parquet")}
    assert broken == {"d2": ["training set"], "r1": ["rows"]}
    assert summary.accepted == 2


def test_a_row_that_broke_its_own_contract_is_not_judged_by_the_next(
    inputs: Inputs, config: Callable[..., ValidateConfig], tmp_path: Path
) -> None:
    """So that it cannot make others fail: here the ids must be there once among what is left."""
    rows = [written("d1", "a table for four please", "tables"), written("r1", "when does my salary arrive")]
    unique = config(training_set=[{"name": "row_id", "unique": True}])
    _, folder = run(new_job(unique, *inputs(TRAIN[:1], [], rows)), tmp_path)
    assert [row["example_id"] for row in read(folder / "training_set.parquet")] == ["d1", "r1"]


def test_a_row_broken_by_its_contract_is_no_reason_to_drop_its_twin(
    inputs: Inputs, config: Callable[..., ValidateConfig], tmp_path: Path
) -> None:
    rows = [written("r1", "a table for four please", "tables"), written("r2", "a table for four please", "dining")]
    _, folder = run(new_job(config(), *inputs([], [], rows)), tmp_path)
    assert pd.read_parquet(folder / "training_set.parquet")["example_id"].tolist() == ["r2"]


def test_of_rows_that_say_the_same_the_collected_one_stays_then_the_best_judged(
    inputs: Inputs, config: Callable[..., ValidateConfig], tmp_path: Path
) -> None:
    def judged(row_id: str, text: str, *scores: float | None) -> Row:
        verdicts = [{"judge": "j", "passed": True, "score": score} for score in scores]
        return {**written(row_id, text), "judgements": json.dumps(verdicts)}

    rows = [
        judged("r1", "please freeze my lost card now", 5),
        judged("r2", "a table for four please", None),
        judged("r3", "a table for four please", 3, 4),
        judged("r4", "a table for four please", 3.5),
        {**written("r5", "a table for four please"), "judgements": "no JSON"},
    ]
    collected, generated = inputs(TRAIN[:1], [], [])
    columns = (*GENERATED_COLUMNS, "judgements")
    write_table(generated.folder / "rows.parquet", rows, columns)
    _, folder = run(new_job(config(), collected, generated), tmp_path)
    assert [row["example_id"] for row in read(folder / "training_set.parquet")] == ["d1", "r3"]


def test_the_order_of_the_input_does_not_matter(
    inputs: Inputs, config: Callable[..., ValidateConfig], tmp_path: Path
) -> None:
    texts = ["freeze my card today please", "freeze my card today please!", "freeze my card today pleases", "a b c d e"]
    rows = [written(f"r{number}", text) for number, text in enumerate([*texts, "hi", "ho"])]
    written_sets = []
    for number, order in enumerate((rows, rows[::-1])):
        _, folder = run(new_job(config(control=True), *inputs(TRAIN, HOLDOUT, order)), tmp_path / str(number))
        written_sets.append([(folder / f"{name}.parquet").read_bytes() for name in (*OUT, "control")])
    assert written_sets[0] == written_sets[1]


def test_collected_rows_can_be_left_out_and_generation_too(
    inputs: Inputs, config: Callable[..., ValidateConfig], tmp_path: Path
) -> None:
    collected, generated = inputs(TRAIN, HOLDOUT, [written("r1", "a table for four please", "dining")])
    alone, _ = run(new_job(config(include_collected=False), collected, generated), tmp_path)
    assert (alone.rows_in, list(alone.details.by_prompt)) == (1, ["write"])
    without, _ = run(new_job(config(), collected, None), tmp_path)
    assert (without.rows_in, list(without.details.by_prompt)) == (2, ["(collected)"])


def test_held_out_documents_that_are_not_asked_may_not_be_learned_either(
    inputs: Inputs, config: Callable[..., ValidateConfig], tmp_path: Path
) -> None:
    collected, generated = inputs(TRAIN, HOLDOUT, [written("r1", HOLDOUT[0]["message"], "flights")])
    write_table(tmp_path / "checked" / "train.parquet", TRAIN, COLLECTED_COLUMNS)
    write_table(tmp_path / "checked" / "holdout.parquet", [], COLLECTED_COLUMNS)
    write_no_lost_documents(tmp_path / "checked")
    documents = ArtifactRef("check_documents", "k", str(tmp_path / "checked"), "c1", 2)
    summary, _ = run(new_job(config(), collected, generated, documents=documents), tmp_path)
    assert (summary.accepted, summary.contaminated) == (2, 1)


def test_texts_of_evaluation_sets_may_not_be_learned(
    inputs: Inputs, config: Callable[..., ValidateConfig], tmp_path: Path
) -> None:
    questions = tmp_path / "questions.jsonl"
    questions.write_text('{"text": "could you book us a table for four at eight tonight"}\n')
    leaks = Contamination(evaluation_sets={"questions": EvaluationSet(path=str(questions))})
    rows = [written("r1", "Could you book us a table for four at eight tonight?", "dining")]
    job = new_job(config(contamination=leaks), *inputs(TRAIN, HOLDOUT, rows))
    summary, _ = run(job, tmp_path)
    assert summary.details.contamination == {"questions": 1}
    key = job.key().hex
    questions.write_text('{"text": "something else"}\n')
    assert job.key().hex != key


def test_a_document_that_is_no_conversation_is_no_row(
    inputs: Inputs, config: Callable[..., ValidateConfig], tmp_path: Path
) -> None:
    passage = {**document("d3", "a passage about cards"), "messages": None}
    summary, _ = run(new_job(config(), inputs([*TRAIN, passage], [passage], [])[0], None), tmp_path)
    assert (summary.rows_in, summary.accepted) == (2, 2)


@pytest.mark.parametrize("rows", [[], [written("r1", None, None), written("r2", "x", "y")]])
def test_no_rows_or_none_that_pass_is_a_violation_or_an_empty_set_as_the_floor_says(
    rows: list[Row], inputs: Inputs, config: Callable[..., ValidateConfig], tmp_path: Path
) -> None:
    collected, generated = inputs([], HOLDOUT, rows)
    with pytest.raises(ContractViolation, match=r"rows in all: 0 of 1 \(1 short\)"):
        run(new_job(config(), collected, generated), tmp_path)
    summary, folder = run(new_job(config(minimum_rows=0, control=True), collected, generated), tmp_path)
    assert (summary.rows_in, summary.quarantined) == (len(rows), len(rows))
    for name in ("training_set", "control"):
        empty = pd.read_parquet(folder / f"{name}.parquet")
        assert list(empty.columns)[:2] == ["example_id", "messages"] and empty.empty


def test_too_few_rows_say_what_they_were_lost_to_and_leave_the_evidence(
    inputs: Inputs, config: Callable[..., ValidateConfig], tmp_path: Path
) -> None:
    rows = [written("r1", "hi"), written("r2", "yo"), written("r3", "please freeze my lost card now")]
    floors = config(minimum_rows=10, minimum_rows_per_label=2)
    with pytest.raises(ContractViolation) as caught:
        run(new_job(floors, *inputs(TRAIN, HOLDOUT, rows), context=ContractContext(labels=("dining",))), tmp_path)
    said = caught.value.what
    assert "rows in all: 2 of 10 (8 short); 'cards': 1 of 2 (1 short); 'dining': 0 of 2 (2 short)" in said
    assert f"prompt write: 3 rows in, 0 kept, lost 2 to {LENGTH}, 1 to exact duplicate" in said
    assert f"source s.csv: 5 rows in, 2 kept, lost 2 to {LENGTH}, 1 to exact duplicate" in said
    assert "label 'payroll', prompt (collected): 1 rows in, 1 kept" in said
    assert "label 'flights', no row came in with this answer" in said
    assert caught.value.where == "validate.minimum_rows, validate.minimum_rows_per_label"
    evidence = Home(tmp_path / "home").logs / "run-1" / "validate"
    assert len(pd.read_parquet(evidence / "quarantine.parquet")) == 2
    assert (evidence / "report" / "data_docs" / "rows" / "index.html").is_file()
    assert not list((tmp_path / "home" / "artifacts").rglob("*.parquet"))


def rejected_by_generate(tmp_path: Path, *rules: str) -> None:
    """Rows that were asked for of the prompt ``write`` and document d1, and that broke these rules."""
    rows = [{"row_id": rule, "document_id": "d1", "prompt": "write", "rule": rule} for rule in rules]
    write_table(tmp_path / "generate" / "quarantine.parquet", rows, ("row_id", "document_id", "prompt", "rule"))


def test_a_contract_that_nothing_was_written_for_says_what_the_answers_were_lost_to(
    inputs: Inputs, config: Callable[..., ValidateConfig], tmp_path: Path
) -> None:
    at_least_one = config([expectation("expect_table_row_count_to_be_between", {"min_value": 1}, name="one")])
    artifacts = inputs(TRAIN, HOLDOUT, [])
    rejected_by_generate(tmp_path, "truncated: the answer ran into max_tokens", "truncated: as before", "schema: no")
    with pytest.raises(ContractViolation, match="prompt write: 3 rows in, 0 kept, lost 2 to truncated, 1 to schema"):
        run(new_job(at_least_one, *artifacts), tmp_path)


def test_too_few_rows_count_those_that_were_never_written(
    inputs: Inputs, config: Callable[..., ValidateConfig], tmp_path: Path
) -> None:
    artifacts = inputs(TRAIN, HOLDOUT, [written("r1", "where is my new card")])
    rejected_by_generate(tmp_path, "truncated: the answer ran into max_tokens")
    with pytest.raises(ContractViolation) as caught:
        run(new_job(config(minimum_rows=5, minimum_rows_per_label=1), *artifacts), tmp_path)
    assert "rows in all: 3 of 5 (2 short)" in caught.value.what
    assert "prompt write: 2 rows in, 1 kept, lost 1 to truncated" in caught.value.what
    assert "source s.csv: 4 rows in, 3 kept, lost 1 to truncated" in caught.value.what


def checked_documents(collected: ArtifactRef, tmp_path: Path) -> ArtifactRef:
    """The documents with texts of at least 20 characters, as the stage before leaves them."""
    long = {**TEXT_RULE, "logicalTypeOptions": {"minLength": 20}}
    paths = {
        name: str(write_contract(tmp_path / f"{name}.odcs.yaml", [rules], name=name))
        for name, rules in (("documents", long), ("evaluations", TEXT_RULE))
    }
    job = CheckDocumentsJob(ValidateConfig(contracts=Contracts(**paths)), collected, FIELDS, ContractContext())
    return run_stage(job, Home(tmp_path / "home"), "run-1").ref


@pytest.mark.parametrize("lost", [1, 2])
def test_too_few_rows_count_the_documents_that_their_contract_took_before(
    lost: int, inputs: Inputs, config: Callable[..., ValidateConfig], tmp_path: Path
) -> None:
    short = [document(f"short-{number}", f"too short {number}", "dining") for number in range(lost)]
    collected, _ = inputs([*TRAIN, *short, document("long", "a table for four please")], [*HOLDOUT], [])
    documents = checked_documents(collected, tmp_path)
    floors = config(minimum_rows=9, minimum_rows_per_label=1)
    job = new_job(floors, collected, None, documents=documents, context=ContractContext(labels=("dining",)))
    with pytest.raises(ContractViolation) as caught:
        run(job, tmp_path)
    took = (
        f"before that, {lost} of {3 + lost} documents broke their contract and gave no row: lost {lost} to {LENGTH} ("
    )
    assert took in caught.value.what.splitlines()[1]
    assert f"{documents.folder}/quarantine.parquet" in caught.value.what
    assert "retune quarantine sample --stage check_documents" in caught.value.what
    assert caught.value.remedy.startswith("mend the documents") == (lost * 2 >= 3 + lost)


def test_a_contract_on_the_table_tells_the_documents_that_were_lost_before(
    inputs: Inputs, config: Callable[..., ValidateConfig], tmp_path: Path
) -> None:
    collected, generated = inputs([document("short", "too short")], HOLDOUT, [])
    at_least_one = config([expectation("expect_table_row_count_to_be_between", {"min_value": 1}, name="one")])
    job = new_job(at_least_one, collected, generated, documents=checked_documents(collected, tmp_path))
    with pytest.raises(ContractViolation, match=f"1 of 1 documents .* no row: lost 1 to {LENGTH} "):
        run(job, tmp_path)


def test_floors_that_are_reached_are_told(
    inputs: Inputs, config: Callable[..., ValidateConfig], tmp_path: Path
) -> None:
    floors = config(minimum_rows=2, minimum_rows_per_label=1)
    summary, _ = run(new_job(floors, inputs(TRAIN, [], [])[0], None), tmp_path)
    assert summary.details.floors == {"minimum_rows": [2, 2], "cards": [1, 1], "payroll": [1, 1]}


ON_SOME = {"row_condition": "queue ==", "condition_parser": "pandas"}
"""No condition that pandas can read, which only running it tells."""


@pytest.mark.parametrize(
    ("quality", "message"),
    [
        (expectation("expect_table_row_count_to_be_between", {"min_value": 9}, name="enough"), "enough: observed: 3"),
        (expectation("expect_column_values_to_match_regex", {"column": "message", "regex": "card", "mostly": 0.9}),
         "2 of 3 rows break it"),
        (expectation("expect_column_values_to_not_be_null", {"column": "queue", **ON_SOME}), "could not be run"),
        (expectation("expect_column_values_to_not_be_null", {"column": "queue", **ON_SOME}, severity="info"),
         "could not be run"),
    ],
)  # fmt: skip
def test_a_contract_broken_as_a_whole_stops_the_run(
    quality: Row, message: str, inputs: Inputs, config: Callable[..., ValidateConfig], tmp_path: Path
) -> None:
    texts = ["a table for four please", "the card I lost is blue", "when does my salary arrive"]
    rows = [written(f"r{number}", text) for number, text in enumerate(texts)]
    with pytest.raises(ContractViolation, match=message) as caught:
        run(new_job(config([quality]), *inputs(TRAIN, HOLDOUT, rows)), tmp_path)
    assert caught.value.where.startswith(f"{tmp_path}/rows.odcs.yaml:") and not caught.value.retryable
    assert (Home(tmp_path / "home").logs / "run-1" / "validate" / "quarantine.parquet").is_file()


def test_rows_within_mostly_are_quarantined_and_the_run_goes_on(
    inputs: Inputs, config: Callable[..., ValidateConfig], tmp_path: Path
) -> None:
    rule = expectation("expect_column_values_to_match_regex", {"column": "message", "regex": "card", "mostly": 0.3})
    rows = [written("r1", "the card I lost is blue"), written("r2", "when does my salary arrive")]
    summary, _ = run(new_job(config([rule]), *inputs([], [], rows)), tmp_path)
    assert (summary.accepted, summary.quarantined) == (1, 1)


def test_a_warning_is_reported_and_costs_nothing_but_stands_with_a_row_that_is_lost_anyway(
    inputs: Inputs, config: Callable[..., ValidateConfig], tmp_path: Path
) -> None:
    rules = [
        expectation("expect_column_values_to_match_regex", {"column": "message", "regex": "card"}, severity="warning"),
        expectation("expect_table_row_count_to_equal", {"value": 5}, severity="info", name="five"),
    ]
    rows = [written("r1", "the card I lost is blue"), written("r2", "when does my salary arrive"), written("r3", "hi")]
    summary, folder = run(new_job(config(rules), *inputs([], [], rows)), tmp_path)
    assert (summary.accepted, summary.quarantined) == (2, 1)
    assert summary.details.warnings == {
        "message.expect_column_values_to_match_regex": "2 of 3 rows break it",
        "five": "observed: 3",
    }
    (lost,) = read(folder / "quarantine.parquet")
    assert [breach["severity"] for breach in lost["breaches"]] == ["critical", "warning"]


def test_the_control_is_a_random_subset_of_what_the_filters_saw_without_leaks(
    inputs: Inputs, config: Callable[..., ValidateConfig], tmp_path: Path
) -> None:
    bad = [written(f"b{number:02}", "no", "elsewhere") for number in range(30)]
    unfit = [written("u1", None), written("u2", " ")]
    leak = HOLDOUT[0]["message"]
    leaks = [written("l1", leak, "flights"), written("l2", leak, "elsewhere")]
    good = [written("g1", "a table for four please"), written("g2", "the card I lost is blue")]
    job = new_job(config(control=True), *inputs(TRAIN, HOLDOUT, [*bad, *unfit, *leaks, *good]))
    summary, folder = run(job, tmp_path)
    training, control = (read(folder / f"{name}.parquet") for name in ("training_set", "control"))
    assert len(control) == len(training) == summary.details.control == 4
    ids = {row["example_id"] for row in control}
    assert len(ids) == 4 and ids & {f"b{number:02}" for number in range(30)} and not ids & {"u1", "u2", "l1", "l2"}
    assert pq.read_schema(folder / "control.parquet") == pq.read_schema(folder / "training_set.parquet")
    _, other = run(replace(job, seed=8), tmp_path)
    assert {row["example_id"] for row in read(other / "control.parquet")} != ids


def test_the_training_set_holds_every_column_that_a_contract_can_name(
    inputs: Inputs, config: Callable[..., ValidateConfig], tmp_path: Path
) -> None:
    from tasks.validate.contracts.columns import contract_columns
    from tasks.validate.rows import read_rows, read_training_set

    rows = [written("r1", "a table for four please", "dining")]
    collected, generated = inputs(TRAIN, HOLDOUT, rows)
    _, folder = run(new_job(config(), collected, generated), tmp_path)
    before = read_rows(collected.folder / "train.parquet", generated.folder / "rows.parquet", FIELDS)
    after = read_training_set(folder / "training_set.parquet", FIELDS)
    assert set(contract_columns(FIELDS)) <= set(after.column_names)
    for name in (*FIELDS, "messages", "user_text", "assistant_text", "row_id", "document_id", "source"):
        assert after[name].to_pylist() == before[name].to_pylist()


def test_the_key_follows_the_contracts_text_and_the_inputs_not_where_they_lie(
    inputs: Inputs, config: Callable[..., ValidateConfig], tmp_path: Path
) -> None:
    collected, generated = inputs(TRAIN, HOLDOUT, [])
    job = new_job(config(), collected, generated)
    contracts = job.config.contracts

    def with_contracts(**changes: str) -> ValidateJob:
        return replace(job, config=job.config.model_copy(update={"contracts": contracts.model_copy(update=changes)}))

    elsewhere = tmp_path / "copy.yaml"
    elsewhere.write_bytes(Path(contracts.rows).read_bytes())
    same = [
        with_contracts(rows=str(elsewhere), documents="others", evaluations="others"),
        replace(job, collected=replace(collected, path="/elsewhere")),
        replace(job, config=job.config.model_copy(update={"drift_window": 7, "timeout_minutes": 5.0})),
    ]
    assert {other.key().hex for other in same} == {job.key().hex}
    changed = tmp_path / "changed.yaml"
    changed.write_text(elsewhere.read_text() + "# a remark\n")
    others = [
        with_contracts(rows=str(changed)),
        with_contracts(training_set=str(changed)),
        replace(job, config=config(minimum_rows=2)),
        replace(job, config=config(contamination=Contamination(ngram=3))),
        replace(job, collected=replace(collected, digest="c1")),
        replace(job, documents=replace(collected, digest="c1")),
        replace(job, generated=None),
        replace(job, fields=("message",)),
        replace(job, context=ContractContext(control_tokens=("<|im_end|>",))),
        replace(job, seed=8),
    ]
    assert len({job.key().hex, *(other.key().hex for other in others)}) == len(others) + 1


TEXTS = st.one_of(
    st.none(),
    st.text(max_size=12),
    st.sampled_from(
        [
            "freeze my lost card",
            "Freeze my lost card!",
            "freeze my lost cards",
            "我的卡丢了我的卡丢了",
            "🎉",
            "x" * 3000,
        ]
    ),
)
QUEUES = st.sampled_from(["cards", "payroll", "", "x", None])
TURN = st.one_of(
    st.none(),
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "tool", None]), "content": TEXTS}),
)
CONVERSATIONS = st.one_of(st.none(), st.lists(TURN, max_size=3))
FIELD_TYPES: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "text": (pa.string(), TEXTS),
    "number": (pa.float64(), st.one_of(st.none(), st.floats())),
    "whole": (pa.int64(), st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1))),
    "truth": (pa.bool_(), st.one_of(st.none(), st.booleans())),
    "list": (pa.list_(pa.string()), st.one_of(st.none(), st.lists(TEXTS, max_size=2))),
    "bytes": (pa.binary(), st.one_of(st.none(), st.binary(max_size=4))),
    "nothing": (pa.null(), st.none()),
}


@st.composite
def tables(draw: st.DrawFn, identity: str, columns: tuple[str, ...]) -> pa.Table:
    """Rows with ids that may repeat or be missing, and fields of any type, or without the field or the conversation."""
    size = draw(st.integers(0, 8))
    ids = [draw(st.one_of(st.none(), st.sampled_from("abcdefg"))) for _ in range(size)]
    made: dict[str, pa.Array] = {identity: pa.array(ids, pa.string())}
    for name in FIELDS:
        kind, values = FIELD_TYPES[draw(st.sampled_from(sorted(FIELD_TYPES)))]
        made[name] = pa.array([draw(values) for _ in range(size)], kind)
    texts = [draw(TEXTS) for _ in range(size)]
    sound = [conversation(text, draw(QUEUES)) for text in texts]
    any_kind = [draw(st.one_of(st.just(one), CONVERSATIONS)) for one in sound]
    if draw(st.booleans()):
        made["messages"] = pa.array(any_kind, pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())])))
    elif draw(st.booleans()):
        made["messages"] = pa.array(texts, pa.string())
    kept = [name for name in made if name == identity or draw(st.integers(0, 9)) > 0]
    rest = {name: pa.array([draw(st.sampled_from(["a", "b", None])) for _ in range(size)], pa.string())
            for name in columns if name not in made}  # fmt: skip
    return pa.table({**{name: made[name] for name in kept}, **rest})


@settings(max_examples=8, deadline=None)
@given(
    train=tables("document_id", ("source",)),
    holdout=tables("document_id", ("source",)),
    generated=tables("row_id", ("document_id", "prompt", "raw", "judgements")),
    with_collected=st.booleans(),
    control=st.booleans(),
)
def test_counts_balance_and_every_row_ends_in_one_place(
    train: pa.Table, holdout: pa.Table, generated: pa.Table, with_collected: bool, control: bool
) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for folder, table in (("c/train", train), ("c/holdout", holdout), ("g/rows", generated)):
            (root / folder).parent.mkdir(exist_ok=True)
            pq.write_table(table, root / f"{folder}.parquet")
        write_no_lost_documents(root / "c")
        write_table(root / "g" / "quarantine.parquet", [], ("row_id", "document_id", "prompt", "rule"))
        contract = str(write_contract(root / "rows.odcs.yaml", PROPERTIES))
        collected, rows = (ArtifactRef("s", "k", str(root / folder), "d", 0) for folder in ("c", "g"))
        config = ValidateConfig(
            contracts=Contracts(rows=contract, training_set=contract),
            include_collected=with_collected,
            minimum_rows=0,
            control=control,
        )
        out = root / "out"
        out.mkdir()
        job = new_job(config, collected, rows)
        summary = job.fill(out, StageContext(Home(root / "home"), "run-1", "k"))
        identity = {"training_set": "example_id"}
        ended = [list(pd.read_parquet(out / f"{table}.parquet")[identity.get(table, "row_id")]) for table in OUT]
    summary.check_balance("validate")
    counts = [summary.accepted, summary.quarantined, summary.duplicates, summary.contaminated]
    assert [len(ids) for ids in ended] == counts
    documents = train if "messages" in train.column_names and with_collected else train.slice(0, 0)
    spoken = [any(turns) if isinstance(turns, list) else False for turns in _column(documents, "messages")]
    expected = [*itertools.compress(_column(documents, "document_id"), spoken), *_column(generated, "row_id")]
    assert sorted(itertools.chain(*ended)) == sorted(one or "" for one in expected)
    assert len(set(ended[0])) == len(ended[0]), "ids that occur twice break the contract"


def _column(table: pa.Table, name: str) -> list[Any]:
    values: list[Any] = table[name].to_pylist() if name in table.column_names else []
    return values
