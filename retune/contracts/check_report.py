"""What came of holding a file against a contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from retune.lint_report import counted

CRITICAL = "critical"
EXAMPLES = 3


@dataclass(frozen=True)
class BrokenRow:
    """A row that breaks a rule.

    Attributes:
        row: its number in the file, from 1.
        line: where it begins; the row's number in a file without lines.
        value: what stands there, shortened.
    """

    row: int
    line: int
    value: str


@dataclass(frozen=True)
class Result:
    """What became of one rule of a contract, or of what a file must have for any rule to be asked.

    Attributes:
        rule: its name.
        severity: critical, warning or info.
        holds: whether it holds, its ``mostly`` included.
        observed: what was seen, in words.
        columns: what it is about.
        rows: the rows that break it; empty where it judges the table as a whole.
        where: file and line in the contract.
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
        """Whether it breaks the contract."""
        return not self.holds and self.severity == CRITICAL

    def as_json(self) -> dict[str, Any]:
        """All but the rows after the first few, of which there is the number."""
        shown = {name: value for name, value in asdict(self).items() if name != "rows"}
        return shown | {"broken": len(self.rows), "examples": [asdict(row) for row in self.rows[:EXAMPLES]]}


@dataclass(frozen=True)
class CheckReport:
    """The verdict on a file.

    Attributes:
        file: that was checked.
        contract, version, contract_file: what it was held against.
        rows: how many it has.
        said: how its rows were read, where that needs saying.
        results: what must hold of the file, then the contract's rules in its order.
        unchecked: rules that were not run, by why.
        has_lines: whether rows are known by lines.
    """

    file: Path
    contract: str
    version: str
    contract_file: str
    rows: int
    said: str
    results: tuple[Result, ...]
    unchecked: Mapping[str, tuple[str, ...]]
    has_lines: bool

    @property
    def is_kept(self) -> bool:
        """Whether no critical rule is broken."""
        return not any(result.stops for result in self.results)

    @property
    def broken_rows(self) -> set[int]:
        """The numbers of the rows that a critical rule takes."""
        critical = (result for result in self.results if result.severity == CRITICAL)
        return {row.row for result in critical for row in result.rows}

    def as_json(self) -> dict[str, Any]:
        """For machines."""
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
        """One sentence."""
        stopping = sum(result.stops for result in self.results)
        taken = f"; {len(self.broken_rows):,} of {counted(self.rows, 'row')} would be quarantined"
        if stopping:
            return f"The contract is broken by {stopping} of {counted(len(self.results), 'rule')}{taken}"
        return f"The contract is kept{taken if self.broken_rows else ''}"
