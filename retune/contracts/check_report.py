"""The result of checking a file against a contract: as data, and as text in a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from retune.lint_report import counted

CRITICAL = "critical"
EXAMPLES = 3
STYLES = {"critical": "red", "warning": "yellow", "info": "cyan"}
INDENT = " " * 17


@dataclass(frozen=True)
class BrokenRow:
    """A row that breaks a rule: its number from 1, its line (or number again), and the shortened value."""

    row: int
    line: int
    value: str


@dataclass(frozen=True)
class Result:
    """The result of one rule of a contract, or of a condition that the file must meet for any rule to run.

    It ``holds`` if its ``mostly`` allows what breaks it. ``rows`` are those that break it; none if it judges the table
    as a whole. ``where`` is file and line in the contract.
    """

    rule: str
    severity: str
    holds: bool
    observed: str
    columns: tuple[str, ...] = ()
    rows: Sequence[BrokenRow] = ()
    where: str = ""

    @property
    def stops(self) -> bool:
        return not self.holds and self.severity == CRITICAL

    def as_json(self) -> dict[str, Any]:
        """Its attributes, but of the rows only the first few and their number."""
        shown = {name: value for name, value in asdict(self).items() if name != "rows"}
        return shown | {"broken": len(self.rows), "examples": [asdict(row) for row in self.rows[:EXAMPLES]]}


@dataclass(frozen=True)
class CheckReport:
    """The verdict on a file.

    ``reading`` is how its rows were read, where that needs a remark; ``results`` are those of the conditions on the
    file, then of the contract's rules in their order; ``unchecked`` has the rules that were not run, by the reason.
    """

    file: Path
    contract: str
    version: str
    contract_file: str
    rows: int
    reading: str
    results: tuple[Result, ...]
    unchecked: Mapping[str, tuple[str, ...]]
    has_lines: bool

    @property
    def is_kept(self) -> bool:
        return not any(result.stops for result in self.results)

    @property
    def broken_rows(self) -> set[int]:
        return {row.row for result in self.results if result.severity == CRITICAL for row in result.rows}

    def as_json(self) -> dict[str, Any]:
        return {
            "file": str(self.file),
            "contract": self.contract,
            "version": self.version,
            "verdict": "kept" if self.is_kept else "broken",
            "rows": self.rows,
            "broken_rows": len(self.broken_rows),
            "results": [result.as_json() for result in self.results],
            "not_checked": {why: list(rules) for why, rules in self.unchecked.items()},
        }

    @property
    def verdict(self) -> str:
        stopping = sum(result.stops for result in self.results)
        taken = f"; {len(self.broken_rows):,} of {counted(self.rows, 'row')} would be quarantined"
        if stopping:
            return f"The contract is broken by {stopping} of {counted(len(self.results), 'rule')}{taken}"
        return f"The contract is kept{taken if self.broken_rows else ''}"


def print_check(report: CheckReport) -> None:
    from retune.terminal import out, plain, show

    how = f"; {report.reading}" if report.reading else ""
    contract = f"{report.contract} {report.version} ({report.contract_file})"
    show(f"{report.file}: {counted(report.rows, 'row')}, checked against {contract}{how}")
    for result in report.results:
        style = "green" if result.holds else STYLES[result.severity]
        mark = plain(f"{'holds' if result.holds else 'fails':<7}{result.severity:<10}", style)
        out.print(mark + plain(f"{result.rule}: {result.observed}"), soft_wrap=True)
        for row in result.rows[:EXAMPLES]:
            place = f"line {row.line} (row {row.row})" if report.has_lines else f"row {row.row}"
            show(f"{INDENT}{place}: {row.value}")
        if len(result.rows) > EXAMPLES:
            show(f"{INDENT}and {len(result.rows) - EXAMPLES:,} more")
        if not result.holds and result.where:
            show(f"{INDENT}the rule: {result.where}", "dim")
    for why, rules in report.unchecked.items():
        show(f"not checked, as {why}: {', '.join(rules)}", "yellow")
    show(report.verdict, "bold green" if report.is_kept else "bold red")
