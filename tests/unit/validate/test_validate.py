"""The stage as a whole: every row ends in one place, for a reason that can be read."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.artifacts import ArtifactRef, Summary
from tasks.core.errors import ContractViolation
from tasks.core.home import Home
from tasks.core.messages import plain
from tasks.core.stage import StageContext, run_stage
from tasks.validate.config import ValidateConfig
from tasks.validate.validate import ValidateJob
from tests.unit.validate.tables import (
    COLLECTED_COLUMNS,
    FIELDS,
    GENERATED_COLUMNS,
    Row,
    document,
    expectation,
    write_contract,
    write_table,
    written,
)

Inputs = Callable[[list[Row], list[Row], list[Row]], tuple[ArtifactRef, ArtifactRef]]
TRAIN = [document("d1", "please freeze my lost card now"), document("d2", "when does my salary arrive", "payroll")]
HOLDOUT = [document("h1", "is my flight to Rome still on time today", "flights")]
PROPERTIES: list[Row] = [
    {"name": "row_id", "required": True, "unique": True},
    {"name": "message", "logicalType": "string", "required": True, "logicalTypeOptions": {"minLength": 8}},
    {"name": "queue", "enum": [{"value": name} for name in ("cards", "payroll", "flights", "dining")]},
]


@pytest.fixture
def contract(tmp_path: Path) -> Path:
    return write_contract(tmp_path / "rows.odcs.yaml", PROPERTIES)


def read(table: Path) -> list[Row]:
    rows: list[Row] = pq.read_table(table).to_pylist()
    return rows


def run(job: ValidateJob, tmp_path: Path) -> tuple[Summary, Path]:
    result = run_stage(job, Home(tmp_path / "home"), "run-1")
    return Summary(**result.ref.manifest()["summary"]), result.ref.folder


def test_every_row_ends_where_it_belongs(inputs: Inputs, contract: Path, tmp_path: Path) -> None:
    rows = [
        written("r1", "Please, freeze my LOST card now!"),
        written("r2", "please freeze my lost card now ok"),
        written("r3", "Is my flight to Rome still on time today??", "flights"),
        written("r4", "hi", "unicorn", prompt="vary"),
        written("r5", None, "dining", prompt="vary"),
        written("r6", "我想订一张四个人的桌子 🎉", "dining", prompt="vary"),
        written("r7", "هل يمكنني حجز طاولة الليلة", "dining", prompt="vary"),
    ]
    job = ValidateJob(ValidateConfig(contract=str(contract)), *inputs(TRAIN, HOLDOUT, rows), FIELDS)
    summary, folder = run(job, tmp_path)
    training = read(folder / "training_set.parquet")
    assert [row["example_id"] for row in training] == ["d1", "d2", "r6", "r7"]
    assert plain(training[2]["messages"])[0] == {"role": "user", "content": "我想订一张四个人的桌子 🎉"}
    lineage = [[row[name] for name in ("origin", "prompt", "teacher", "seed")] for row in training[1:3]]
    assert lineage == [["collected", "", "", 0], ["generated", "vary", "seedling", 7]]
    length, closed = "message.expect_column_value_lengths_to_be_between", "queue.expect_column_values_to_be_in_set"
    missing = "message.expect_column_values_to_not_be_null"
    names = ("row_id", "rule", "value", "raw", "prompt", "document_id")
    assert [[row[name] for name in names] for row in read(folder / "quarantine.parquet")] == [
        ["r3", "contamination", "h1", "Is my flight to Rome still on time today??", "write", "d1"],
        ["r4", f"{length}; {closed}", "hi; unicorn", "hi", "vary", "d1"],
        ["r5", f"{missing}; messages: an empty turn", "null; ", "", "vary", "d1"],
    ]
    assert read(folder / "duplicates.parquet") == [
        {"row_id": "r1", "kind": "exact", "duplicate_of": "d1", "text": "Please, freeze my LOST card now!"},
        {"row_id": "r2", "kind": "near", "duplicate_of": "d1", "text": "please freeze my lost card now ok"},
    ]
    assert (summary.rows_in, summary.accepted, summary.quarantined, summary.duplicates) == (9, 4, 3, 2)
    assert summary.details["rules"]["contamination"] == 1
    assert summary.details["labels"] == {"cards": 1, "dining": 2, "payroll": 1}
    assert summary.details["by_prompt"] == {
        "(collected)": {"rows_in": 2, "accepted": 2, "quarantined": 0, "duplicates": 0},
        "vary": {"rows_in": 4, "accepted": 2, "quarantined": 2, "duplicates": 0},
        "write": {"rows_in": 3, "accepted": 0, "quarantined": 1, "duplicates": 2},
    }
    assert (folder / "report" / "data_docs" / "index.html").is_file()


def test_a_row_broken_by_its_contract_is_no_reason_to_drop_its_twin(
    inputs: Inputs, contract: Path, tmp_path: Path
) -> None:
    rows = [written("r1", "a table for four please", "tables"), written("r2", "a table for four please", "dining")]
    job = ValidateJob(ValidateConfig(contract=str(contract)), *inputs([], [], rows), FIELDS)
    _, folder = run(job, tmp_path)
    assert pd.read_parquet(folder / "training_set.parquet")["example_id"].tolist() == ["r2"]


def test_the_order_of_the_input_does_not_matter(inputs: Inputs, contract: Path, tmp_path: Path) -> None:
    texts = ["freeze my card today please", "freeze my card today please!", "freeze my card today pleases", "a b c d e"]
    rows = [written(f"r{number}", text) for number, text in enumerate(texts)]
    written_sets = []
    for number, order in enumerate((rows, rows[::-1])):
        job = ValidateJob(ValidateConfig(contract=str(contract)), *inputs([], [], order), FIELDS)
        _, folder = run(job, tmp_path / str(number))
        written_sets.append([(folder / f"{name}.parquet").read_bytes() for name in ("training_set", "duplicates")])
    assert written_sets[0] == written_sets[1]


def test_collected_rows_can_be_left_out_and_generation_too(inputs: Inputs, contract: Path, tmp_path: Path) -> None:
    collected, generated = inputs(TRAIN, HOLDOUT, [written("r1", "a table for four please", "dining")])
    config = ValidateConfig(contract=str(contract), include_collected=False)
    alone, _ = run(ValidateJob(config, collected, generated, FIELDS), tmp_path)
    assert (alone.rows_in, list(alone.details["by_prompt"])) == (1, ["write"])
    config = ValidateConfig(contract=str(contract))
    without, _ = run(ValidateJob(config, collected, None, FIELDS), tmp_path)
    assert (without.rows_in, list(without.details["by_prompt"])) == (2, ["(collected)"])


@pytest.mark.parametrize("rows", [[], [written("r1", None, None), written("r2", "x", "y")]])
def test_no_rows_or_none_that_pass_is_a_violation_or_an_empty_set_as_the_floor_says(
    rows: list[Row], inputs: Inputs, contract: Path, tmp_path: Path
) -> None:
    collected, generated = inputs([], HOLDOUT, rows)
    with pytest.raises(ContractViolation, match=r"0 of 1 rows \(1 short\)"):
        run(ValidateJob(ValidateConfig(contract=str(contract)), collected, generated, FIELDS), tmp_path)
    allowed = ValidateConfig(contract=str(contract), minimum_rows=0)
    summary, folder = run(ValidateJob(allowed, collected, generated, FIELDS), tmp_path)
    assert (summary.rows_in, summary.quarantined) == (len(rows), len(rows))
    empty = pd.read_parquet(folder / "training_set.parquet")
    assert list(empty.columns)[:2] == ["example_id", "messages"] and empty.empty


def test_too_few_rows_say_what_they_were_lost_to_and_leave_the_evidence(
    inputs: Inputs, contract: Path, tmp_path: Path
) -> None:
    rows = [written("r1", "hi"), written("r2", "yo"), written("r3", "please freeze my lost card now")]
    config = ValidateConfig(contract=str(contract), minimum_rows=10, minimum_rows_per_label=2)
    job = ValidateJob(config, *inputs(TRAIN, HOLDOUT, rows), FIELDS)
    with pytest.raises(ContractViolation) as caught:
        run(job, tmp_path)
    assert "2 of 10 rows (8 short)" in caught.value.what
    assert "'cards': 1 of 2 (1 short); 'flights': 0 of 2 (2 short); 'payroll': 1 of 2" in caught.value.what
    assert "write: 3 rows in; lost to message.expect_column_value_lengths_to_be_between: 2, exact duplicate: 1" in (
        caught.value.what
    )
    evidence = Home(tmp_path / "home").logs / "run-1" / "validate"
    assert len(pd.read_parquet(evidence / "quarantine.parquet")) == 2
    assert not list((tmp_path / "home" / "artifacts").rglob("*.parquet"))


@pytest.mark.parametrize(
    ("quality", "message"),
    [
        (expectation("expect_table_row_count_to_be_between", {"min_value": 9}, name="enough"), "enough: observed: 3"),
        (expectation("expect_column_values_to_match_regex", {"column": "message", "regex": "card", "mostly": 0.9}),
         "2 of 3 rows break it"),
        (expectation("expect_column_mean_to_be_between", {"column": "queue", "max_value": 1}), "could not be run"),
        (expectation("expect_column_mean_to_be_between", {"column": "queue", "max_value": 1}, severity="info"),
         "could not be run"),
    ],
)  # fmt: skip
def test_a_contract_broken_as_a_whole_stops_the_run(quality: Row, message: str, inputs: Inputs, tmp_path: Path) -> None:
    path = write_contract(tmp_path / "rows.odcs.yaml", PROPERTIES, [quality])
    rows = [written("r1", "a table for four please", "dining")]
    job = ValidateJob(ValidateConfig(contract=str(path)), *inputs(TRAIN, HOLDOUT, rows), FIELDS)
    with pytest.raises(ContractViolation, match=message) as caught:
        run(job, tmp_path)
    assert caught.value.where.startswith(f"{path}:") and not caught.value.retryable


def test_rows_within_mostly_are_quarantined_and_the_run_goes_on(inputs: Inputs, tmp_path: Path) -> None:
    rule = expectation("expect_column_values_to_match_regex", {"column": "message", "regex": "card", "mostly": 0.3})
    path = write_contract(tmp_path / "rows.odcs.yaml", PROPERTIES, [rule])
    job = ValidateJob(ValidateConfig(contract=str(path)), inputs(TRAIN, [], [])[0], None, FIELDS)
    summary, _ = run(job, tmp_path)
    assert (summary.accepted, summary.quarantined) == (1, 1)


def test_a_warning_is_reported_and_costs_nothing(inputs: Inputs, tmp_path: Path) -> None:
    rules = [
        expectation("expect_column_values_to_match_regex", {"column": "message", "regex": "card"}, severity="warning"),
        expectation("expect_table_row_count_to_equal", {"value": 5}, severity="info", name="five"),
    ]
    path = write_contract(tmp_path / "rows.odcs.yaml", PROPERTIES, rules)
    job = ValidateJob(ValidateConfig(contract=str(path)), inputs(TRAIN, [], [])[0], None, FIELDS)
    summary, _ = run(job, tmp_path)
    assert (summary.accepted, summary.quarantined) == (2, 0)
    assert summary.details["warnings"] == {
        "message.expect_column_values_to_match_regex": "1 of 2 rows break it",
        "five": "observed: 2",
    }


def test_the_key_follows_the_contract_s_text_and_the_inputs_not_where_they_lie(
    inputs: Inputs, contract: Path, tmp_path: Path
) -> None:
    collected, generated = inputs(TRAIN, HOLDOUT, [])
    job = ValidateJob(ValidateConfig(contract=str(contract)), collected, generated, FIELDS)
    elsewhere = tmp_path / "copy.yaml"
    elsewhere.write_bytes(contract.read_bytes())
    moved = replace(collected, path="/elsewhere")
    assert ValidateJob(ValidateConfig(contract=str(elsewhere)), moved, generated, FIELDS).key().hex == job.key().hex
    elsewhere.write_text(contract.read_text() + "# a remark\n")
    others = [
        replace(job, config=ValidateConfig(contract=str(elsewhere))),
        replace(job, config=ValidateConfig(contract=str(contract), minimum_rows=2)),
        replace(job, collected=replace(collected, digest="c1")),
        replace(job, generated=None),
        replace(job, fields=("message",)),
    ]
    assert len({job.key().hex, *(other.key().hex for other in others)}) == 6


TEXTS = st.one_of(
    st.none(),
    st.text(max_size=12),
    st.sampled_from(
        ["freeze my lost card", "Freeze my lost card!", "freeze my lost cards", "我的卡丢了我的卡丢了", "🎉"]
    ),
)
QUEUES = st.sampled_from(["cards", "payroll", "", "x", None])


@settings(max_examples=12, deadline=None)
@given(
    train=st.lists(st.tuples(TEXTS, QUEUES), max_size=5),
    holdout=st.lists(TEXTS, max_size=2),
    generated=st.lists(st.tuples(st.sampled_from("abcdefg"), TEXTS, QUEUES), max_size=8),
)
def test_counts_balance_and_no_row_is_lost_or_doubled(
    train: list[tuple[str | None, str | None]],
    holdout: list[str | None],
    generated: list[tuple[str, str | None, str | None]],
) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        documents = [document(f"d{number}", *row) for number, row in enumerate(train)]
        write_table(root / "c" / "train.parquet", documents, COLLECTED_COLUMNS)
        kept_back = [document(f"h{number}", text) for number, text in enumerate(holdout)]
        write_table(root / "c" / "holdout.parquet", kept_back, COLLECTED_COLUMNS)
        write_table(root / "g" / "rows.parquet", [written(*row) for row in generated], GENERATED_COLUMNS)
        contract = write_contract(root / "rows.odcs.yaml", PROPERTIES)
        collected, rows = (ArtifactRef("s", "k", str(root / folder), "d", 0) for folder in ("c", "g"))
        job = ValidateJob(ValidateConfig(contract=str(contract), minimum_rows=0), collected, rows, FIELDS)
        out = root / "out"
        out.mkdir()
        summary = job.fill(out, StageContext(Home(root / "home"), "run-1", "k"))
        names = {"training_set": "example_id", "quarantine": "row_id", "duplicates": "row_id"}
        ended = [list(pd.read_parquet(out / f"{table}.parquet")[column]) for table, column in names.items()]
    summary.check_balance("validate")
    assert [len(ids) for ids in ended] == [summary.accepted, summary.quarantined, summary.duplicates]
    expected = [row["document_id"] for row in documents] + [row[0] for row in generated]
    assert sorted(itertools.chain(*ended)) == sorted(expected)
    assert len(set(ended[0])) == len(ended[0]), "ids that occur twice break the contract"
