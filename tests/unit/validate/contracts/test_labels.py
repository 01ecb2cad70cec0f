"""A contract's sets of values must be the labels of the task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasks.validate.contracts.contract import read_contract
from tasks.validate.contracts.labels import label_findings
from tests.unit.validate.tables import expectation, write_contract

LABELS = ("cards", "bills")
IN_SET, NOT_IN_SET = "expect_column_values_to_be_in_set", "expect_column_values_to_not_be_in_set"


def found(folder: Path, column: dict[str, Any]) -> list[tuple[str, str]]:
    path = folder / "rows.odcs.yaml"
    write_contract(path, [column], name="rows")
    rules = read_contract(path, ["queue", "assistant_text", "topic"]).rules
    return [(one.severity, one.what + one.remedy) for one in label_findings(rules, ("queue", "assistant_text"), LABELS)]


def enum(*values: str, name: str = "queue") -> dict[str, Any]:
    return {"name": name, "enum": [{"value": value} for value in values]}


def rule(kind: str, *values: str, severity: str = "critical", **more: Any) -> dict[str, Any]:
    return {"name": "queue", "quality": [expectation(kind, {"value_set": [*values], **more}, severity=severity)]}


@pytest.mark.parametrize(
    "column",
    [
        enum("cards", "bills"),
        enum("fees", name="topic"),
        rule(NOT_IN_SET, "unknown"),
        rule("expect_column_distinct_values_to_contain_set", "cards"),
        rule("expect_column_label_shares_to_be_between", "cards", min_share=0.1),
        rule(IN_SET, "cards", row_condition='origin=="generated"', condition_parser="pandas"),
    ],
)
def test_a_set_that_fits_the_labels_passes(tmp_path: Path, column: dict[str, Any]) -> None:
    assert found(tmp_path, column) == []


@pytest.mark.parametrize("name", ["queue", "assistant_text"])
def test_a_misspelt_label_is_an_error_with_the_nearest(tmp_path: Path, name: str) -> None:
    (lost, unknown) = found(tmp_path, enum("cards", "bils", name=name))
    assert lost[0] == unknown[0] == "error" and "rejects the task's labels 'bills'" in lost[1]
    assert "'bils'" in unknown[1] and "did you mean 'bills'" in unknown[1]


@pytest.mark.parametrize(
    ("column", "severity", "what"),
    [
        (enum("cards"), "error", "rejects the task's labels 'bills'"),
        (enum("cards", "bills", "fees"), "warning", "names 'fees'"),
        (rule(NOT_IN_SET, "cards"), "error", "rejects the task's labels 'cards'"),
        (rule(IN_SET, "cards", severity="warning"), "warning", "rejects the task's labels 'bills'"),
        (rule("expect_column_distinct_values_to_contain_set", "fees"), "error", "names 'fees'"),
        (rule("expect_column_distinct_values_to_be_in_set", "cards"), "error", "rejects the task's labels 'bills'"),
        (rule("expect_column_label_shares_to_be_between", "card", min_share=0.1), "error", "did you mean 'cards'"),
    ],
)
def test_a_set_that_does_not_fit_is_told(tmp_path: Path, column: dict[str, Any], severity: str, what: str) -> None:
    (one,) = found(tmp_path, column)
    assert one[0] == severity and what in one[1]
