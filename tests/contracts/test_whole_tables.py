"""The rules of shipped contracts on whole tables: that there are rows at all, and more than one answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contracts.planted_rows import check, planted


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("raw_documents", "at least one document"),
        ("evaluation_set", "at least one document is held out"),
        ("training_set", "at least one row is left"),
    ],
)
def test_an_empty_table_is_noticed(name: str, rule: str, tmp_path: Path) -> None:
    found = check(name, [], tmp_path)
    assert {rule} <= {name for name, finding in found.items() if not finding.success}
    assert found[rule].rule.severity == "critical"


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("evaluation_set", "no answer has nearly all questions"),
        ("training_set", "no answer has nearly all rows"),
    ],
)
def test_a_table_in_which_nearly_all_answers_are_the_same_is_warned_of(name: str, rule: str, tmp_path: Path) -> None:
    good, _ = planted(name)
    row = next(row for row in good if row.get("assistant_text"))
    found = check(name, [*good, *([row] * 20 * len(good))], tmp_path)
    assert not found[rule].success and found[rule].rule.severity == "warning"
