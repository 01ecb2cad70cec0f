"""The contracts that ship with the project accept what they should and reject each thing they are there to reject."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from retune.contracts.lint import lint_contracts
from tasks.core.home import PROJECT_ROOT
from tests.contracts.planted_rows import COLUMNS, CONTRACTS, Row, broken_by, check, contract_of, meant_for, planted

QUEUES = ("cards", "accounts", "bills", "credit", "flights", "dining", "vehicles", "payroll")


def message(number: int, **changes: Any) -> Row:
    queue = QUEUES[number % len(QUEUES)]
    row = {"row_id": f"r{number}", "document_id": "d", "origin": "generated", "prompt": "write", "topic": "a topic"}
    return {**row, "message": f"please help me with number {number}", "queue": queue, **changes}


def test_every_shipped_contract_is_tested_here() -> None:
    shipped = {path.name.removesuffix(".odcs.yaml") for path in CONTRACTS.glob("*.yaml")}
    assert shipped == {name.partition(".")[0] for name in COLUMNS}


def test_the_linter_finds_nothing_wrong_with_them() -> None:
    report = lint_contracts([])
    assert report.as_text() == f"{report.checked} contracts checked: 0 errors, 0 warnings"


@pytest.mark.parametrize("name", COLUMNS)
def test_good_rows_keep_every_rule(name: str, tmp_path: Path) -> None:
    good, _ = planted(name)
    findings = check(name, good, tmp_path)
    assert {rule: finding.observed for rule, finding in findings.items() if not finding.success} == {}


@pytest.mark.parametrize("name", COLUMNS)
def test_each_bad_row_is_caught_by_the_rule_meant_for_it_and_no_good_row_is(name: str, tmp_path: Path) -> None:
    good, bad = planted(name)
    found = broken_by(check(name, [*good, *bad], tmp_path))
    meant = {len(good) + number: meant_for(row) for number, row in enumerate(bad)}
    assert found == meant, "precision and recall are 1"


@pytest.mark.parametrize("name", COLUMNS)
def test_every_rule_on_rows_has_a_bad_row_planted_for_it(name: str) -> None:
    _, bad = planted(name)
    caught = {rule for row in bad for rule in meant_for(row)}
    assert {rule.name for rule in contract_of(name).on_rows.rules} == caught


def test_a_table_with_few_rows_or_queues_is_noticed(tmp_path: Path) -> None:
    findings = check("generated_rows", [message(0), message(8)], tmp_path)
    assert not findings["enough rows to look at"].success
    balance = findings["every queue is there, and none has most of the rows"]
    assert not balance.success and balance.rule.severity == "warning"


def test_a_queue_that_has_most_of_the_rows_is_noticed(tmp_path: Path) -> None:
    rows = [message(number) for number in range(8)] + [message(number, queue="bills") for number in range(8, 24)]
    findings = check("generated_rows", rows, tmp_path)
    assert [name for name, finding in findings.items() if not finding.success] == [
        "every queue is there, and none has most of the rows"
    ]


def test_the_messages_written_by_hand_keep_the_contract(tmp_path: Path) -> None:
    source = PROJECT_ROOT / "deployments" / "recipes" / "data" / "support_messages.csv"
    with source.open(encoding="utf-8", newline="") as file:
        rows = [{**row, "row_id": row["id"], "document_id": row["id"], "prompt": "-"} for row in csv.DictReader(file)]
    assert len(rows) >= 320
    findings = check("generated_rows", rows, tmp_path)
    assert {name: finding.observed for name, finding in findings.items() if not finding.success} == {}


def test_no_chat_examples_at_all_is_noticed(tmp_path: Path) -> None:
    assert not check("chat_examples", [], tmp_path)["at least one row"].success
