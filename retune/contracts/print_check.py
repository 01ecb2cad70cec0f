"""Verdicts on files as text in a terminal. Nothing that a file holds is markup or a control code."""

from __future__ import annotations

from rich.console import Console

from retune.contracts.check_report import EXAMPLES, CheckReport, Result
from retune.lint_report import counted
from retune.terminal import plain

STYLES = {"critical": "red", "warning": "yellow", "info": "cyan"}
INDENT = " " * 17


def print_check(console: Console, report: CheckReport) -> None:
    """A line for each rule, the first rows that break it below, and the verdict."""
    held = f"held against {report.contract} {report.version} ({report.contract_file})"
    how = f"; {report.said}" if report.said else ""
    console.print(plain(f"{report.file}: {counted(report.rows, 'row')}, {held}{how}"), soft_wrap=True)
    for result in report.results:
        style = "green" if result.holds else STYLES[result.severity]
        mark = plain(f"{'holds' if result.holds else 'fails':<7}{result.severity:<10}", style)
        console.print(mark + plain(f"{result.rule}: {result.observed}"), soft_wrap=True)
        _print_rows(console, result, report.has_lines)
    for why, rules in report.unchecked.items():
        console.print(plain(f"not checked, as {why}: {', '.join(rules)}", "yellow"), soft_wrap=True)
    console.print(plain(report.verdict, "bold green" if report.is_kept else "bold red"), soft_wrap=True)


def _print_rows(console: Console, result: Result, has_lines: bool) -> None:
    for row in result.rows[:EXAMPLES]:
        place = f"line {row.line} (row {row.row})" if has_lines else f"row {row.row}"
        console.print(plain(f"{INDENT}{place}: {row.value}"), soft_wrap=True)
    if len(result.rows) > EXAMPLES:
        console.print(plain(f"{INDENT}and {len(result.rows) - EXAMPLES:,} more"), soft_wrap=True)
    if not result.holds and result.where:
        console.print(plain(f"{INDENT}the rule: {result.where}", "dim"), soft_wrap=True)
