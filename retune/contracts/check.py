"""``retune contracts check``: check any file against a contract."""

from __future__ import annotations

import json
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

GIVEN_BY_A_NIGHT = frozenset((*LINEAGE, *DOCUMENT))  # columns that a night writes, which other files need not have
NUMERIC = ("integer", "number")
MOST_SHOWN = 200


@dataclass(frozen=True)
class Checked:
    """A report, and by row number the rules that each row breaks if one of them is critical."""

    report: CheckReport
    breaches: Mapping[int, list[dict[str, Any]]]


def check_file(path: Path, contract_path: Path, recipe_name: str | None = None) -> Checked:
    """Check every rule of a contract's first table on every row of a CSV, TSV, JSON, JSON Lines or Parquet file.

    A recipe gives arguments to rules, and maps the file's columns to fields. Raises a RetuneError if the contract or
    the recipe is not valid, or the file cannot be read or has no row.
    """
    recipe: Recipe | None = None
    if recipe_name is not None:
        from flows.recipe.read import read_recipe

        recipe = read_recipe(recipe_name)
    header = header_of(path)
    contract = _contract(contract_path, header, recipe)
    wanted = tuple(dict.fromkeys((*contract.types, *contract.reads)))
    rows = read_rows(path, wanted, header, recipe)
    runnable, unchecked = _split(contract, rows)
    delimiter = other_delimiter(header, rows.format) if set(wanted).isdisjoint(header) else None
    results = [*_delimiter_result(delimiter, header), *_reading_result(rows)]
    wrong = rows.typed(contract.types)
    if rows.numbers:
        lacking = [name for name in wanted if name not in rows.columns and name not in GIVEN_BY_A_NIGHT]
        results += _column_results(lacking, [] if delimiter else header)
        results += _type_results(contract, rows, wrong)
    if runnable.rules:
        columns = {name: _series(rows.columns[name], contract.types.get(name)) for name in runnable.reads}
        frame = pd.DataFrame(columns).reindex(range(len(rows.numbers)))
        results += [_rule_result(found, rows, wrong) for found in run_checkpoint(runnable, frame, None)]
    report = CheckReport(
        path, contract.name, contract.version, from_here(contract_path), rows.count, rows.reading, tuple(results),
        unchecked, rows.format not in BY_ROWS,
    )  # fmt: skip
    return Checked(report, _breaches(report))


def write_broken(checked: Checked, to: Path) -> None:
    """Write the rows that break a critical rule as JSON Lines: ``row``, ``line``, ``breaches`` and ``values``."""
    with to.open("w", encoding="utf-8") as file:
        for number, record in as_written(checked.report.file, checked.breaches):
            row = {"row": number, "line": record.line, "breaches": checked.breaches[number]}
            row |= {"values": record.values} if record.values is not None else {"raw": record.raw}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _contract(path: Path, header: Sequence[str], recipe: Recipe | None) -> Contract:
    file, _ = read_file(path)
    tables = file.document.schema_ or [] if file else []
    own = [item.name or "" for item in (tables[0].properties or [])] if tables else []
    fields: tuple[str, ...] = ()
    context = ANY_RECIPE
    if recipe:
        from flows.recipe.named_files import contract_context, row_fields

        fields, context = row_fields(recipe), contract_context(recipe)
    columns = dict.fromkeys((*own, *header, *fields, *LINEAGE, *DOCUMENT, *CONVERSATION), "")
    return read_contract(path, columns, context=context)


def _split(contract: Contract, rows: FileRows) -> tuple[Contract, dict[str, tuple[str, ...]]]:
    unchecked: dict[str, tuple[str, ...]] = {}
    runnable = []
    for rule in contract.rules:
        if rule.reads and not rows.numbers:
            why = "no row could be read"
        elif column := next((name for name in rule.reads if name not in rows.columns), None):
            why = f"the file has no column {column}"
        elif ANY_RECIPE.model in rule.arguments.values():
            why = "the model is a recipe's: name one with --recipe"
        else:
            runnable.append(rule)
            continue
        unchecked[why] = (*unchecked.get(why, ()), rule.name)
    return replace(contract, rules=tuple(runnable)), unchecked


def _series(values: Sequence[Any], logical: str | None) -> pd.Series[Any]:
    """A column for the rules; numbers that a double does not hold exactly stay as they are."""
    if logical not in NUMERIC:
        return pd.Series(values, dtype=object)
    if logical == "integer" and all(value is not None for value in values):
        return pd.Series(values, dtype="int64")
    is_exact = all(value is None or float(value) == value for value in values)
    return pd.Series(values, dtype="float64" if is_exact else object)


def _reading_result(rows: FileRows) -> Iterator[Result]:
    if rows.unreadable:
        observed = f"{len(rows.unreadable):,} of {rows.count:,} rows cannot be read"
        observed += f"; the rules below saw the other {len(rows.numbers):,}" if rows.numbers else ""
        broken = [
            BrokenRow(fault.row, fault.line, _shown(": ".join(filter(None, (fault.problem, fault.value)))))
            for fault in rows.unreadable
        ]
        yield Result("(readable rows)", CRITICAL, False, observed, rows=broken)


def _delimiter_result(mark: str | None, header: Sequence[str]) -> Iterator[Result]:
    if mark:
        what = f"the header is one column, {_shown(header[0])!r}: its fields seem to be separated by {mark!r}"
        yield Result("(separator)", CRITICAL, False, f"{what}; save it as CSV with commas or TSV with tabs")


def _column_results(lacking: Sequence[str], header: Sequence[str]) -> Iterator[Result]:
    for name in lacking:
        hint = f"; {did_you_mean(name, header)}columns are: {', '.join(header)}" * bool(header)
        yield Result(f"{name} (column)", CRITICAL, False, f"the file has no column {name!r}{hint}", (name,))


def _type_results(contract: Contract, rows: FileRows, wrong: Mapping[str, Sequence[Unusable]]) -> Iterator[Result]:
    for name, faults in wrong.items():
        logical = contract.types.get(name)
        rule = f"{name} (logicalType: {logical})" if logical else f"{name} (values of one type)"
        observed = f"{len(faults):,} of {rows.count:,} rows break it: {faults[0].problem}"
        broken = [BrokenRow(fault.row, fault.line, _shown(fault.value)) for fault in faults]
        yield Result(rule, CRITICAL, False, observed, (name,), broken)


def _rule_result(found: RuleResult, rows: FileRows, wrong: Mapping[str, Sequence[Unusable]]) -> Result:
    """The result of a rule, without the rows whose value has a wrong type: another result has those."""
    rule, where = found.rule, from_here(found.rule.where)
    if found.exception is not None:
        observed = f"could not be run: {found.exception}"
        return Result(rule.name, CRITICAL, False, observed, rule.columns, where=where)
    if found.failing is None:
        return Result(rule.name, rule.severity, found.success, found.observed, rule.columns, where=where)
    skipped = {fault.row for name in rule.columns for fault in wrong.get(name, ())}
    failing = [at for at in found.failing.tolist() if rows.numbers[at] not in skipped]
    broken = [BrokenRow(rows.numbers[at], rows.lines[at], _values(rule.columns, rows, at)) for at in failing]
    observed = f"{len(broken):,} of {rows.count:,} rows break it"
    if broken and found.success:
        observed += f", which mostly: {rule.arguments['mostly']} allows"
    return Result(rule.name, rule.severity, found.success or not broken, observed, rule.columns, broken, where)


def _values(columns: Sequence[str], rows: FileRows, at: int) -> str:
    values = [rows.columns[name][at] for name in columns]
    return ", ".join("(missing)" if value is None else _shown(str(value)) or "(empty)" for value in values)


def _shown(text: str) -> str:
    return visible(shortened(text, MOST_SHOWN)).replace("\n", "\\n")


def _breaches(report: CheckReport) -> dict[int, list[dict[str, Any]]]:
    breaches: dict[int, list[dict[str, Any]]] = {number: [] for number in sorted(report.broken_rows)}
    for result in report.results:
        about = {"rule": result.rule, "severity": result.severity, "column": ", ".join(result.columns)}
        for row in result.rows:
            if row.row in breaches:
                breaches[row.row].append({**about, "value": row.value})
    return breaches
