"""One checkpoint over all rows: which rows break which rule, and what Great Expectations shows of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tasks.validate.checkpoint import RuleResult, run_checkpoint
from tasks.validate.contracts.contract import Contract
from tasks.validate.contracts.rule import Rule


def rule(expectation: str, severity: str = "critical", **arguments: Any) -> Rule:
    return Rule(expectation, expectation, arguments, severity, "c.yaml:1")


def run(rows: pd.DataFrame, docs: Path, *rules: Rule) -> list[RuleResult]:
    return run_checkpoint(Contract(Path("c.yaml"), "rows / and more", "1.0.0", rules), rows, docs)


def positions(finding: RuleResult) -> list[int] | None:
    return None if finding.failing is None else finding.failing.tolist()


@pytest.fixture
def rows() -> pd.DataFrame:
    """Texts of several scripts and a number, on an index that repeats itself."""
    texts = ["hello there", "x", None, "我的卡丢了", "أين راتبي", "🎉🎉", "hello there"]
    return pd.DataFrame({"text": texts, "number": [1.0, 5, 2, 3, 4, 9, 7]}, index=[3, 3, 0, 8, 8, 1, -1])


def test_failing_rows_are_named_by_their_position_whatever_the_index(rows: pd.DataFrame, tmp_path: Path) -> None:
    found = run(
        rows,
        tmp_path / "docs",
        rule("expect_column_values_to_not_be_null", column="text"),
        rule("expect_column_value_lengths_to_be_between", column="text", min_value=2, max_value=9),
        rule("expect_column_values_to_be_unique", column="text"),
        rule("expect_column_values_to_match_regex", column="text", regex=r"^(?!x)\w"),
        rule("expect_column_values_to_be_between", column="number", max_value=5),
        rule("expect_compound_columns_to_be_unique", column_list=["text", "number"]),
    )
    assert [positions(finding) for finding in found] == [[2], [0, 1, 6], [0, 6], [1, 5], [5, 6], []]
    assert [finding.success for finding in found] == [False] * 5 + [True]
    assert found[0].observed == "1 of 7 rows break it"


def test_mostly_decides_success_and_still_names_the_rows(rows: pd.DataFrame, tmp_path: Path) -> None:
    lenient, strict = run(
        rows,
        tmp_path / "docs",
        rule("expect_column_values_to_not_be_null", column="text", mostly=0.8),
        rule("expect_column_values_to_not_be_null", column="text", mostly=0.9),
    )
    assert (lenient.success, strict.success) == (True, False)
    assert positions(lenient) == positions(strict) == [2]


def test_rules_on_the_table_name_no_rows_and_say_what_they_saw(rows: pd.DataFrame, tmp_path: Path) -> None:
    count, mean, values, exists = run(
        rows,
        tmp_path / "docs",
        rule("expect_table_row_count_to_be_between", min_value=8),
        rule("expect_column_mean_to_be_between", column="number", min_value=5),
        rule("expect_column_distinct_values_to_contain_set", column="text", value_set=["x", "y"]),
        rule("expect_column_to_exist", column="text"),
    )
    assert [positions(finding) for finding in (count, mean, values, exists)] == [None] * 4
    assert [finding.success for finding in (count, mean, values, exists)] == [False, False, False, True]
    assert count.observed == "observed: 7"
    assert values.observed == "missing: ['y']"


def test_a_rule_that_cannot_be_run_says_why(rows: pd.DataFrame, tmp_path: Path) -> None:
    broken, fine = run(
        rows,
        tmp_path / "docs",
        rule("expect_column_mean_to_be_between", column="text", min_value=1),
        rule("expect_table_row_count_to_equal", value=7),
    )
    assert broken.exception is not None and "numeric" in broken.exception
    assert (fine.success, fine.exception) == (True, None)


def test_an_empty_table_breaks_no_rule_on_rows(rows: pd.DataFrame, tmp_path: Path) -> None:
    unique, count = run(
        rows[:0],
        tmp_path / "docs",
        rule("expect_column_values_to_be_unique", column="text"),
        rule("expect_table_row_count_to_be_between", min_value=1),
    )
    assert (unique.success, positions(unique)) == (True, [])
    assert (count.success, count.observed) == (False, "observed: 0")


def test_data_docs_show_the_rules_and_nothing_of_the_machine(
    rows: pd.DataFrame, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    docs = tmp_path / "report" / "docs"
    run(
        rows,
        docs,
        rule("expect_column_values_to_not_be_null", column="text"),
        rule("expect_column_distinct_values_to_be_in_set", column="text", value_set=["x"]),
        rule("expect_column_mean_to_be_between", "warning", column="text", min_value=1),
    )
    pages = {path.relative_to(docs).as_posix(): path.read_text() for path in docs.rglob("*.html")}
    (result,) = [page for name, page in pages.items() if name.startswith("validations/")]
    assert "values must never be null" in result
    assert "rows-and-more" in pages["index.html"]
    (link,) = re.findall(r'<a href="(validations/[^"]+)">rows-and-more: each rule</a>', pages["index.html"])
    assert link in pages, "the first page leads to the result without a script"
    assert "fa-check-circle" in result and '.fa-check-circle::before { content: "\\2714"; }' in result
    assert not [name for name, page in pages.items() if "dataContextId" in page]
    assert not [name for name, page in pages.items() if str(tmp_path) in page]
    assert [path.name for path in docs.parent.iterdir()] == ["docs"], "the rest of the GX project is gone"
    assert "Exception" not in capfd.readouterr().err
