"""From a table of a contract file to rules that can be run, with everything that is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tasks.core.findings import Finding
from tasks.core.suggestions import did_you_mean
from tasks.core.tables import Columns
from tasks.validate.contracts.arguments import faults_of_arguments
from tasks.validate.contracts.backtracking import endless
from tasks.validate.contracts.column_types import misfits
from tasks.validate.contracts.columns import can_hold
from tasks.validate.contracts.expectations import (
    close_names,
    find_expectation,
    from_recipe,
    is_row_level,
    runs_on_pandas,
)
from tasks.validate.contracts.odcs import ContractFile, implementation_of, is_great_expectations
from tasks.validate.contracts.rule import ContractContext, Rule
from tasks.validate.contracts.vacuous_rules import Placed, clashes

if TYPE_CHECKING:
    from open_data_contract_standard.model import DataQuality, SchemaObject, SchemaProperty

Location = tuple[str | int, ...]
SEVERITIES = {"critical": "critical", "error": "critical", "warning": "warning", "info": "info"}
BOUNDS = {
    "minimum": ("min_value", ""),
    "maximum": ("max_value", ""),
    "exclusiveMinimum": ("min_value", "strict_min"),
    "exclusiveMaximum": ("max_value", "strict_max"),
}
"""Options of numbers: the argument that they become, and the one that makes it exclusive."""
CUSTOM_REMEDY = "write it as {type: custom, engine: greatExpectations, implementation: {type: expect_..., kwargs: ...}}"
SEVERITY_REMEDY = "write it beside type: critical (or error), warning, or info"
ABOUT_ALL_COLUMNS = "expect_table_column"
"""Expectations that begin so count or list the table's columns."""


@dataclass(frozen=True)
class Compiled:
    """What a table of a contract says.

    Attributes:
        rules: in the order of the file, each with a name of its own.
        types: the logical type of each column that the table gives one.
    """

    rules: tuple[Rule, ...]
    types: Mapping[str, str]


def compile_table(
    file: ContractFile, columns: Columns | Sequence[str], table: str | None, context: ContractContext
) -> tuple[Compiled | None, list[Finding]]:
    """Compile one table of a contract, and find all that is wrong with it.

    Args:
        file: the contract.
        columns: those that the table has, with the logical types that they are stored as, where those are known.
        table: its name in the contract; None: the first.
        context: what rules take from the recipe.
    """
    tables = file.document.schema_ or []
    names = [item.name or "" for item in tables]
    if not tables:
        return None, [file.finding("no-table", "The contract describes 0 tables", ("schema",), "describe one")]
    if table is not None and table not in names:
        what = f"The contract describes no table {table!r}"
        return None, [file.finding("no-table", what, ("schema",), f"tables are: {', '.join(names)}")]
    number = 0 if table is None else names.index(table)
    stored = columns if isinstance(columns, Mapping) else dict.fromkeys(columns)
    described = tables[number].properties or []
    types = {item.name: item.logicalType for item in described if item.name and item.logicalType}
    compiler = _Compiler(file, stored, types, context, ("schema", number))
    found = list(compiler.rules_and_faults(tables[number]))
    placed = [item for item in found if isinstance(item, Placed)]
    faults = [item for item in found if isinstance(item, Finding)]
    faults += _endless_patterns(file, placed)
    faults += [
        file.finding(clash.code, clash.what, clash.at, clash.remedy, is_error=clash.is_error)
        for clash in clashes(placed)
    ]
    return Compiled(tuple(_with_unique_names([item.rule for item in placed])), types), faults


@dataclass(frozen=True)
class _Compiler:
    """Turns a table of a contract file into rules.

    Attributes:
        stored: the columns, with the types that they are stored as, where those are known.
        described: the types that the contract gives them.
    """

    file: ContractFile
    stored: Mapping[str, str | None]
    described: Mapping[str, str]
    context: ContractContext
    at: Location

    def rules_and_faults(self, table: SchemaObject) -> Iterator[Placed | Finding]:
        properties = table.properties or []
        keys = [item.name or "" for item in properties if item.primaryKey]
        seen: set[str] = set()
        for index, item in enumerate(properties):
            at = (*self.at, "properties", index)
            name = item.name or ""
            if name in seen:
                what = f"The column {name!r} is described twice"
                yield self.file.finding("duplicate-column", what, (*at, "name"), "describe it once")
            seen.add(name)
            faults = list(self._faults_of_column(item, at))
            yield from faults
            if not faults:
                yield from self._property_rules(item, at, sole_key=len(keys) == 1)
            for number, rule in enumerate(item.quality or []):
                yield from self._quality_rule(rule, (*at, "quality", number), None if faults else name, name)
        if len(keys) > 1 and seen.issuperset(keys):
            arguments = {"column_list": keys}
            yield from self._rule("expect_compound_columns_to_be_unique", arguments, (*self.at, "properties"))
        for number, rule in enumerate(table.quality or []):
            yield from self._quality_rule(rule, (*self.at, "quality", number), None, None)

    def _faults_of_column(self, item: SchemaProperty, at: Location) -> Iterator[Finding]:
        name = item.name or ""
        if fault := self._unknown_column(name, (*at, "name")):
            yield fault
            return
        stored = self.stored[name]
        if item.logicalType and stored and not can_hold(stored, item.logicalType):
            yield self.file.finding(
                "column-type",
                f"The column {name!r} is stored as {stored}, not as {item.logicalType}",
                (*at, "logicalType"),
                f"write logicalType: {stored}, and what its text must be like as a pattern or a quality rule",
            )

    def _unknown_column(self, column: str, at: Location) -> Finding | None:
        if column in self.stored:
            return None
        what = f"The contract names the column {column!r}, which the rows do not have"
        return self.file.finding(
            "unknown-column", what, at, f"{did_you_mean(column, self.stored)}columns: {', '.join(self.stored)}"
        )

    def _property_rules(self, item: SchemaProperty, at: Location, sole_key: bool) -> Iterator[Placed | Finding]:
        column = {"column": item.name or ""}
        if item.required or item.primaryKey:
            said = "required" if item.required else "primaryKey"
            yield from self._rule("expect_column_values_to_not_be_null", column, (*at, said))
        if item.unique or (item.primaryKey and sole_key):
            said = "unique" if item.unique else "primaryKey"
            yield from self._rule("expect_column_values_to_be_unique", column, (*at, said))
        if item.enum:
            allowed = {"value_set": [choice.value for choice in item.enum]}
            yield from self._rule("expect_column_values_to_be_in_set", column | allowed, (*at, "enum"))
        yield from self._option_rules(item, column, (*at, "logicalTypeOptions"))

    def _option_rules(
        self, item: SchemaProperty, column: Mapping[str, str], at: Location
    ) -> Iterator[Placed | Finding]:
        options = dict(item.logicalTypeOptions or {})
        written = {"minLength": "min_value", "maxLength": "max_value"}
        lengths = {name: options.pop(name) for name in written if options.get(name) is not None}
        if lengths:
            given = {written[name]: value for name, value in lengths.items()}
            where = (*at, next(iter(lengths)))
            yield from self._rule("expect_column_value_lengths_to_be_between", {**column, **given}, where)
        if (pattern := options.pop("pattern", None)) is not None:
            yield from self._rule("expect_column_values_to_match_regex", {**column, "regex": pattern}, (*at, "pattern"))
        if item.logicalType in ("integer", "number"):
            yield from self._bound_rules({name: options.pop(name) for name in BOUNDS if name in options}, column, at)
        for name in options:
            what = f"logicalTypeOptions.{name} of a {item.logicalType or 'property'} is not checked here"
            remedy = f"remove it, or as a quality rule {CUSTOM_REMEDY}"
            yield self.file.finding("not-checked", what, (*at, name), remedy)

    def _bound_rules(
        self, bounds: dict[str, Any], column: Mapping[str, str], at: Location
    ) -> Iterator[Placed | Finding]:
        """One rule for a lower and an upper bound; a second one where there are two of a kind."""
        while bounds:
            first_of_a_kind = {BOUNDS[name][0]: name for name in reversed(bounds)}
            chosen = [name for name in bounds if name in first_of_a_kind.values()]
            arguments: dict[str, Any] = {}
            for name in chosen:
                argument, strict = BOUNDS[name]
                arguments |= {argument: bounds.pop(name), **({strict: True} if strict else {})}
            yield from self._rule("expect_column_values_to_be_between", {**column, **arguments}, (*at, chosen[0]))

    def _quality_rule(
        self, rule: DataQuality, at: Location, column: str | None, written_under: str | None
    ) -> Iterator[Placed | Finding]:
        """One quality rule.

        Args:
            column: the property that it belongs to; None where there is none, or no such column.
            written_under: the same, whether there is such a column or not.
        """
        kind = rule.type or "library"
        if kind == "text":
            return
        if kind != "custom" or not is_great_expectations(rule.engine):
            named = f"type: {kind}" + (f", engine: {rule.engine}" if kind == "custom" else "")
            place = (*at, "engine") if kind == "custom" else (*at, "type")
            yield self.file.finding("engine", f"A quality rule of {named} is not supported", place, CUSTOM_REMEDY)
            return
        where = (*at, "implementation")
        wanted = implementation_of(rule)
        if wanted is None:
            what = "implementation must have a type, may have kwargs, and nothing else"
            yield self.file.finding("implementation", what, where, CUSTOM_REMEDY)
            return
        arguments = wanted.get("kwargs") or {}
        if not isinstance(arguments, dict):
            yield self.file.finding("implementation", "kwargs is no mapping", (*where, "kwargs"), CUSTOM_REMEDY)
            return
        severity = SEVERITIES.get((rule.severity or "critical").lower())
        if severity is None:
            what = f"The severity {rule.severity!r} is unknown"
            yield self.file.finding("severity", what, (*at, "severity"), SEVERITY_REMEDY)
        if "severity" in arguments:
            what = "The severity stands in kwargs"
            yield self.file.finding("severity", what, (*where, "kwargs", "severity"), SEVERITY_REMEDY)
            arguments = {name: value for name, value in arguments.items() if name != "severity"}
        if written_under is not None and not arguments.keys() & {"column", "column_A", "column_list"}:
            if column is None:
                return  # what is wrong with its column was said where the column is described
            arguments = {"column": column, **arguments}
        yield from self._rule(wanted["type"], arguments, where, severity or "critical", rule.name)

    def _rule(
        self,
        expectation: str,
        arguments: Mapping[str, Any],
        at: Location,
        severity: str = "critical",
        name: str | None = None,
    ) -> Iterator[Placed | Finding]:
        found = find_expectation(expectation)
        if found is None:
            near = close_names(expectation)
            remedy = f"did you mean {' or '.join(near)}?" if near else "see https://greatexpectations.io/expectations"
            what = f"There is no expectation {expectation!r}"
            yield self.file.finding("unknown-expectation", what, (*at, "type"), remedy)
            return
        if not runs_on_pandas(found):
            remedy = "choose one that works on pandas"
            yield self.file.finding("engine", f"{found} needs an SQL database", (*at, "type"), remedy)
            return
        filled = {**arguments, **self._given_by_recipe(found, arguments)}
        rule = Rule(found, found, filled, severity, self.file.where(at), "row" if is_row_level(found) else "table")
        faults = list(self._faults_of_rule(rule, at))
        yield from faults
        if not faults:
            also_reads = self._read_besides(rule)
            named = name or ".".join([*rule.columns[:1], found])
            yield Placed(replace(rule, name=named, also_reads=also_reads), at)

    def _faults_of_rule(self, rule: Rule, at: Location) -> Iterator[Finding]:
        types = {name: self.stored.get(name) or self.described.get(name) for name in rule.columns}
        for fault in (*faults_of_arguments(rule.expectation, rule.arguments), *misfits(rule, types)):
            place = (*at, "kwargs", *([fault.argument] if fault.argument else []))
            yield self.file.finding(fault.code, fault.what, place, fault.remedy)
        for column in rule.columns:
            if unknown := self._unknown_column(column, (*at, "kwargs", *_naming(column, rule))):
                yield unknown

    def _given_by_recipe(self, expectation: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments that the contract leaves to the recipe."""
        known = {argument: getattr(self.context, name) for argument, name in from_recipe(expectation).items()}
        return {
            argument: list(value) if isinstance(value, tuple) else value
            for argument, value in known.items()
            if value and argument not in arguments
        }

    def _read_besides(self, rule: Rule) -> tuple[str, ...]:
        if rule.expectation.startswith(ABOUT_ALL_COLUMNS):
            return tuple(self.stored)
        words = set(re.findall(r"\w+", str(rule.arguments.get("row_condition") or "")))
        return tuple(column for column in self.stored if column in words)


def _endless_patterns(file: ContractFile, rules: Sequence[Placed]) -> Iterator[Finding]:
    named = [(rule, name, pattern) for rule in rules for name, pattern in _patterns(rule.rule)]
    slow = endless(pattern for _, _, pattern in named)
    for rule, name, pattern in named:
        if pattern in slow:
            yield file.finding(
                "regex",
                f"{rule.rule.expectation}: {pattern!r} takes for ever on some texts of 60 characters",
                (*rule.at, "kwargs", name),
                "let no repetition hold another one that can match the same text, as (\\w+\\s?)+ does",
            )


def _patterns(rule: Rule) -> Iterator[tuple[str, str]]:
    for name in ("regex", "regex_list"):
        given = rule.arguments.get(name) or []
        yield from ((name, pattern) for pattern in ([given] if isinstance(given, str) else given))


def _naming(column: str, rule: Rule) -> list[str]:
    """The argument of a rule that names a column."""
    return [key for key, value in rule.arguments.items() if value == column][:1]


def _with_unique_names(rules: Sequence[Rule]) -> Iterator[Rule]:
    """The same rules; a name that was used before gets a number."""
    seen: dict[str, int] = {}
    for rule in rules:
        seen[rule.name] = seen.get(rule.name, 0) + 1
        suffix = f" ({seen[rule.name]})" if seen[rule.name] > 1 else ""
        yield replace(rule, name=rule.name + suffix)
