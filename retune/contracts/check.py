"""``retune contracts check``: hold any file against a contract."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from retune.contracts.check_report import CRITICAL, BrokenRow, CheckReport, Result
from retune.contracts.file_rows import BY_ROWS, FileRows, Unusable, as_written, header_of, other_delimiter, read_rows
from retune.contracts.uses import ANY_RECIPE
from retune.display_text import shortened, visible
from retune.lint_report import from_here
from tasks.core.suggestions import did_you_mean
from tasks.core.tables import CONVERSATION, DOCUMENT, LINEAGE
from tasks.validate.checkpoint import RuleResult, run_checkpoint
from tasks.validate.contracts.contract import Contract, read_contract
from tasks.validate.contracts.odcs import read_file

if TYPE_CHECKING:
    from flows.recipe.recipe import Recipe

GIVEN_BY_A_NIGHT = frozenset((*LINEAGE, *DOCUMENT))
"""A file that no night wrote does not have them, and need not."""
NUMERIC = ("integer", "number")
MOST_SHOWN = 200


@dataclass(frozen=True)
class Checked:
    """A report, and what each row breaks that a critical rule takes: by the row's number."""

    report: CheckReport
    breaches: Mapping[int, list[dict[str, Any]]]


def check_file(path: Path, contract_path: Path, recipe_name: str | None = None) -> Checked:
    """Check every rule of a contract on every row of a file.

    Args:
        path: CSV, TSV, JSON, JSON Lines or Parquet, packed or not.
        contract_path: the contract; of several tables its first.
        recipe_name: the recipe that gives what rules take from one, and that maps the file's columns to fields.

    Raises:
        RetuneError: the contract or the recipe is no good, or the file as a whole cannot be read or holds no row.
    """
    recipe = _recipe(recipe_name)
    header = header_of(path)
    contract = _contract(contract_path, header, recipe)
    wanted = tuple(dict.fromkeys((*contract.types, *contract.reads)))
    rows = read_rows(path, wanted, header, recipe)
    runnable, unchecked = _split(contract, rows)
    mark = other_delimiter(header, rows.format) if set(wanted).isdisjoint(header) else None
    results = [*_of_delimiter(mark, header), *_of_rows(rows)]
    wrong = rows.typed(contract.types)
    if rows.numbers:
        lacking = [name for name in wanted if name not in rows.columns]
        results += _of_columns([name for name in lacking if name not in GIVEN_BY_A_NIGHT], [] if mark else header)
        results += _of_types(contract, rows, wrong)
    results += [_of_rule(finding, rows, wrong) for finding in _findings(runnable, rows)]
    report = CheckReport(
        path,
        contract.name,
        contract.version,
        from_here(contract_path),
        rows.count,
        rows.said,
        tuple(results),
        unchecked,
        rows.format not in BY_ROWS,
    )
    return Checked(report, _breaches(report))


def write_broken(checked: Checked, to: Path) -> None:
    """Write the rows that a critical rule takes as JSON Lines: ``row``, ``line``, ``breaches`` and ``values``."""
    with to.open("w", encoding="utf-8") as file:
        for number, record in as_written(checked.report.file, checked.breaches):
            row = {"row": number, "line": record.line, "breaches": checked.breaches[number]}
            row |= {"values": record.values} if record.values is not None else {"raw": record.raw}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _recipe(name: str | None) -> Recipe | None:
    if name is None:
        return None
    from flows.recipe.read import read_recipe

    return read_recipe(name)


def _contract(path: Path, header: Sequence[str], recipe: Recipe | None) -> Contract:
    """The contract for the columns that the file has, those that it describes, and those that every row has.

    Raises:
        ContractError: it is no good.
    """
    file, _ = read_file(path)
    tables = file.document.schema_ or [] if file else []
    own = [item.name or "" for item in (tables[0].properties or [])] if tables else []
    fields = recipe.row_fields if recipe else ()
    columns = dict.fromkeys((*own, *header, *fields, *LINEAGE, *DOCUMENT, *CONVERSATION), "")
    return read_contract(path, columns, context=recipe.contract_context if recipe else ANY_RECIPE)


def _split(contract: Contract, rows: FileRows) -> tuple[Contract, dict[str, tuple[str, ...]]]:
    """The contract with the rules that can be run, and the names of the others by why they cannot."""
    unchecked: dict[str, list[str]] = {}
    runnable = []
    for rule in contract.rules:
        if rule.reads and not rows.numbers:
            unchecked.setdefault("no row could be read", []).append(rule.name)
        elif column := next((name for name in rule.reads if name not in rows.columns), None):
            unchecked.setdefault(f"the file has no column {column}", []).append(rule.name)
        elif ANY_RECIPE.model in rule.arguments.values():
            unchecked.setdefault("the model is a recipe's: name one with --recipe", []).append(rule.name)
        else:
            runnable.append(rule)
    return replace(contract, rules=tuple(runnable)), {why: tuple(names) for why, names in unchecked.items()}


def _findings(contract: Contract, rows: FileRows) -> list[RuleResult]:
    if not contract.rules:
        return []
    frame = pd.DataFrame({name: _series(rows.columns[name], contract.types.get(name)) for name in contract.reads})
    with tempfile.TemporaryDirectory(prefix="retune-check-") as scratch:
        return run_checkpoint(contract, frame.reindex(range(len(rows.numbers))), Path(scratch) / "data_docs")


def _series(values: Sequence[Any], logical: str | None) -> pd.Series[Any]:
    """Numbers as numbers, where none is missing as integers; everything else as it is."""
    if logical not in NUMERIC:
        return pd.Series(values, dtype=object)
    has_all = logical == "integer" and all(value is not None for value in values)
    return pd.Series(values, dtype="int64" if has_all else "float64")


def _of_rows(rows: FileRows) -> Iterator[Result]:
    """Whether all rows can be read."""
    if rows.unreadable:
        said = f"{len(rows.unreadable):,} of {rows.count:,} rows cannot be read"
        said += f"; the rules below saw the other {len(rows.numbers):,}" if rows.numbers else ""
        broken = [
            BrokenRow(one.row, one.line, _shown(": ".join(filter(None, (one.problem, one.value)))))
            for one in rows.unreadable
        ]
        yield Result("(readable rows)", CRITICAL, False, said, rows=broken)


def _of_delimiter(mark: str | None, header: Sequence[str]) -> Iterator[Result]:
    """Whether the fields are separated as the file's ending says, by the looks of its header."""
    if mark:
        said = (
            f"the header is one column, {_shown(header[0])!r}: its fields seem to be separated by {mark!r}; save it as"
        )
        yield Result("(separator)", CRITICAL, False, f"{said} CSV with commas or TSV with tabs")


def _of_columns(lacking: Sequence[str], header: Sequence[str]) -> Iterator[Result]:
    """Whether all columns are there; without a header to be shown none is."""
    for name in lacking:
        hint = f"; {did_you_mean(name, header)}columns are: {', '.join(header)}" * bool(header)
        yield Result(f"{name} (column)", CRITICAL, False, f"the file has no column {name!r}{hint}", (name,))


def _of_types(contract: Contract, rows: FileRows, wrong: Mapping[str, Sequence[Unusable]]) -> Iterator[Result]:
    """The columns with values that are not of its type."""
    for name, faults in wrong.items():
        logical = contract.types.get(name)
        rule = f"{name} (logicalType: {logical})" if logical else f"{name} (values of one type)"
        said = f"{len(faults):,} of {rows.count:,} rows break it: {faults[0].problem}"
        broken = [BrokenRow(one.row, one.line, _shown(one.value)) for one in faults]
        yield Result(rule, CRITICAL, False, said, (name,), broken)


def _of_rule(finding: RuleResult, rows: FileRows, wrong: Mapping[str, Sequence[Unusable]]) -> Result:
    """What a rule found; values of a wrong type are left to the rule on types."""
    rule = finding.rule
    where = from_here(rule.where)
    if finding.exception is not None:
        said = f"could not be run: {finding.exception}"
        return Result(rule.name, CRITICAL, False, said, rule.columns, where=where)
    if finding.failing is None:
        return Result(rule.name, rule.severity, finding.success, finding.observed, rule.columns, where=where)
    passed_over = {one.row for name in rule.columns for one in wrong.get(name, ())}
    failing = [at for at in finding.failing.tolist() if rows.numbers[at] not in passed_over]
    broken = [BrokenRow(rows.numbers[at], rows.lines[at], _values(rule.columns, rows, at)) for at in failing]
    said = f"{len(broken):,} of {rows.count:,} rows break it"
    if broken and finding.success:
        said += f", which mostly: {rule.arguments['mostly']} allows"
    return Result(rule.name, rule.severity, finding.success or not broken, said, rule.columns, broken, where)


def _values(columns: Sequence[str], rows: FileRows, at: int) -> str:
    values = [rows.columns[name][at] for name in columns]
    shown = ["(missing)" if value is None else _shown(str(value)) or "(empty)" for value in values]
    return ", ".join(shown)


def _shown(text: str) -> str:
    return visible(shortened(text, MOST_SHOWN)).replace("\n", "\\n")


def _breaches(report: CheckReport) -> dict[int, list[dict[str, Any]]]:
    taken = report.broken_rows
    breaches: dict[int, list[dict[str, Any]]] = {number: [] for number in sorted(taken)}
    for result in report.results:
        about = {"rule": result.rule, "severity": result.severity, "column": ", ".join(result.columns)}
        for row in result.rows:
            if row.row in taken:
                breaches[row.row].append({**about, "value": row.value})
    return breaches
