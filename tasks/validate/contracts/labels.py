"""Whether a contract's sets of values fit the labels of a task."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from tasks.core.findings import Finding, Severity
from tasks.core.suggestions import did_you_mean
from tasks.validate.contracts.columns import NOT_IN_SET
from tasks.validate.contracts.rule import Rule
from tasks.validate.contracts.vacuous_rules import IN_SET

CODE = "task-label"
ALL_IN_SET = (IN_SET, "expect_column_distinct_values_to_be_in_set", "expect_column_distinct_values_to_equal_set")
"""Rules that a value outside their set breaks; those that name a ``value_set`` otherwise want each value to occur."""


def label_findings(rules: Iterable[Rule], columns: Sequence[str], labels: Sequence[str]) -> Iterator[Finding]:
    """Rules on the columns with the labels (``columns``) that reject a label, or that name a value that is not one."""
    for rule in rules:
        values = rule.arguments.get("value_set")
        if labels and values and set(rule.columns) & {*columns} and not rule.arguments.get("row_condition"):
            yield from _misfits(rule, [str(value) for value in values], labels)


def _misfits(rule: Rule, values: Sequence[str], labels: Sequence[str]) -> Iterator[Finding]:
    path, _, line = rule.where.rpartition(":")

    def finding(what: str, remedy: str, severity: Severity) -> Finding:
        return Finding(CODE, f"{what} ({rule.name})", path, int(line), 1, remedy, severity)

    severity: Severity = "error" if rule.severity == "critical" else "warning"
    refused = [name for name in labels if (name in values) == (rule.expectation == NOT_IN_SET)]
    if refused and rule.expectation in (*ALL_IN_SET, NOT_IN_SET):
        remedy = f"correct the set, or task.labels in the recipe: {', '.join(labels)}"
        yield finding(f"The rule rejects the task's labels {', '.join(map(repr, refused))}", remedy, severity)
    unknown = [value for value in values if value not in labels and rule.expectation != NOT_IN_SET]
    for value in unknown:
        remedy = f"{did_you_mean(value, labels)}labels are: {', '.join(labels)}"
        of_set = "warning" if rule.expectation == IN_SET and not refused else severity
        yield finding(f"The rule names {value!r}, which is not one of the task's labels", remedy, of_set)
