"""Documents that break their contract go to quarantine, held-out ones too, and nothing is lost on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tasks.core.artifacts import ArtifactRef
from tasks.core.errors import ContractViolation
from tasks.core.home import Home
from tasks.core.stage import StageResult, run_stage
from tasks.validate.check_documents import CheckDocumentsJob
from tasks.validate.config import Contracts, ValidateConfig
from tasks.validate.contracts.rule import ContractContext
from tests.unit.validate.tables import FIELDS, Row, document, expectation, write_contract

Inputs = Callable[..., tuple[ArtifactRef, ArtifactRef]]
LONG_ENOUGH = [{"name": "message", "logicalType": "string", "logicalTypeOptions": {"minLength": 5}}]
IN_LETTERS = {"name": "user_text", "logicalType": "string", "logicalTypeOptions": {"pattern": "[a-z]"}}
SOME_ROWS = expectation("expect_table_row_count_to_be_between", {"min_value": 2}, name="some rows")


@pytest.fixture
def check(tmp_path: Path, inputs: Inputs) -> Callable[..., StageResult]:
    """Run the check on these documents, with a contract for those that train and one for the holdout."""

    def run(train: list[Row], holdout: list[Row], **contracts: tuple[list[Row], list[Row]]) -> StageResult:
        default: dict[str, tuple[list[Row], list[Row]]] = {
            "documents": (LONG_ENOUGH, []),
            "evaluations": ([IN_LETTERS], []),
        }
        paths = {
            name: str(write_contract(tmp_path / f"{name}.odcs.yaml", properties, quality, name))
            for name, (properties, quality) in (default | contracts).items()
        }
        collected = replace(inputs(train, holdout, [])[0], digest=repr((train, holdout)))
        job = CheckDocumentsJob(ValidateConfig(contracts=Contracts(**paths)), collected, FIELDS, ContractContext())
        return run_stage(job, Home(tmp_path / "home"), "run-1")

    return run


def rows_of(result: StageResult, name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(result.ref.folder / f"{name}.parquet").to_pylist()
    return rows


def test_both_tables_are_divided_and_every_row_is_counted_once(check: Callable[..., StageResult]) -> None:
    train = [document("a", "my card is lost"), document("b", "no"), document("c", "where is my bonus", "payroll")]
    holdout = [document("x", "???"), document("y", "how do I pay")]
    done = check(train, holdout)
    assert [row["document_id"] for row in rows_of(done, "train")] == ["a", "c"]
    assert [row["document_id"] for row in rows_of(done, "holdout")] == ["y"]
    summary = done.ref.manifest()["summary"]
    assert (summary["rows_in"], summary["accepted"], summary["quarantined"]) == (5, 3, 2)
    details = summary["details"]
    assert details["conversations"] == {"train": 2, "holdout": 1}
    assert details["by_contract"]["evaluations"] == {"rows_in": 2, "accepted": 1, "quarantined": 1}
    assert details["by_source"] == {"s.csv": {"rows_in": 5, "accepted": 3, "quarantined": 2}}
    assert details["rules"] == {
        "message.expect_column_value_lengths_to_be_between": 1,
        "user_text.expect_column_values_to_match_regex": 1,
    }
    for boundary in ("documents", "evaluations"):
        assert (done.ref.folder / "report" / "data_docs" / boundary / "index.html").is_file()


def test_the_quarantine_says_of_each_row_what_it_is_and_every_rule_that_it_broke(
    check: Callable[..., StageResult],
) -> None:
    rules = [
        expectation("expect_column_values_to_match_regex", {"column": "message", "regex": "^[A-Z]"}, severity="info")
    ]
    done = check(
        [document("b", "no"), document("c", "long enough")], [document("x", "???")], documents=(LONG_ENOUGH, rules)
    )
    first, second = rows_of(done, "quarantine")
    assert (first["row_id"], first["document_id"], first["origin"], first["source"]) == ("b", "b", "collected", "s.csv")
    assert [(one["contract"], one["severity"], one["value"]) for one in first["breaches"]] == [
        ("documents", "critical", "no"),
        ("documents", "info", "no"),
    ]
    assert first["fields"] == '{"message":"no","queue":"cards"}'
    assert [turn["content"] for turn in first["messages"]] == ["no", "cards"]
    assert (second["row_id"], second["origin"], second["breaches"][0]["contract"]) == ("x", "held out", "evaluations")
    assert done.ref.manifest()["summary"]["details"]["warnings"] == {
        "documents: message.expect_column_values_to_match_regex": "2 of 2 rows break it"
    }


def test_what_is_left_is_stored_as_collect_stored_it(check: Callable[..., StageResult], tmp_path: Path) -> None:
    done = check([document("a", "my card is lost"), document("b", "no")], [document("y", "how do I pay")])
    for name, kept in (("train", 1), ("holdout", 1)):
        before, after = (
            pq.read_table(folder / f"{name}.parquet") for folder in (tmp_path / "collect", done.ref.folder)
        )
        assert after.schema == before.schema
        assert after.to_pylist() == before.to_pylist()[:kept]


def test_a_document_that_is_no_conversation_is_judged_by_its_fields_alone(check: Callable[..., StageResult]) -> None:
    text = {**document("a", "a passage of text"), "messages": None}
    short = {**document("b", "no"), "messages": None}
    done = check([text, short], [{**document("x", "???"), "messages": None}])
    assert [row["document_id"] for row in rows_of(done, "train")] == ["a"]
    assert [row["document_id"] for row in rows_of(done, "holdout")] == ["x"]
    assert done.ref.manifest()["summary"]["details"]["conversations"] == {"train": 0, "holdout": 0}


@pytest.mark.parametrize(("boundary", "train"), [("documents", 1), ("evaluations", 3)])
def test_a_table_that_breaks_its_contract_as_a_whole_stops_the_run_and_leaves_evidence(
    check: Callable[..., StageResult], tmp_path: Path, boundary: str, train: int
) -> None:
    documents = [document(str(number), "my card is lost") for number in range(train)]
    with pytest.raises(ContractViolation, match="some rows") as caught:
        check(documents, [document("x", "how?")], **{boundary: (LONG_ENOUGH, [SOME_ROWS])})
    assert f"{boundary}.odcs.yaml:" in caught.value.where
    evidence = tmp_path / "home" / "logs" / "run-1" / "check_documents"
    assert (evidence / "report" / "data_docs" / boundary / "index.html").is_file()
    assert pq.read_table(evidence / "quarantine.parquet").num_rows == (boundary == "evaluations")
    assert not list((tmp_path / "home" / "artifacts").glob("check_documents/*/manifest.json"))


def test_all_rows_may_break_a_rule_and_none_need_be_there(check: Callable[..., StageResult]) -> None:
    every = check([document(str(number), "no") for number in range(50)], [document("x", "?")])
    assert (every.ref.rows, len(rows_of(every, "quarantine"))) == (0, 51)
    assert pq.read_table(every.ref.folder / "train.parquet").num_rows == 0
    none = check([], [])
    assert none.ref.manifest()["summary"]["rows_in"] == 0
    assert rows_of(none, "quarantine") == []


def test_the_artifact_is_found_again_until_a_contract_changes(
    check: Callable[..., StageResult], tmp_path: Path
) -> None:
    documents = [document("a", "my card is lost")], [document("y", "how do I pay")]
    first = check(*documents)
    assert check(*documents).cached
    changed = check(*documents, evaluations=(LONG_ENOUGH, []))
    assert not changed.cached and changed.ref.key != first.ref.key
