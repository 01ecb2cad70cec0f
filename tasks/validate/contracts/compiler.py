"""Compile a table of a contract file to rules, and find everything that is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from tasks.core.findings import Finding
from tasks.core.suggestions import did_you_mean
from tasks.core.tables import Columns
from tasks.core.yaml_texts import not_texts, quote_fault
from tasks.core.yaml_tree import child_of, find_node
from tasks.validate.contracts.backtracking import endless
from tasks.validate.contracts.columns import can_hold, misfits, text_arguments
from tasks.validate.contracts.expectations import catalogue
from tasks.validate.contracts.odcs import ContractFile, Place, implementation_of, is_great_expectations
from tasks.validate.contracts.rule import ContractContext, Rule
from tasks.validate.contracts.vacuous_rules import Placed, clashes

if TYPE_CHECKING:
    from open_data_contract_standard.model import DataQuality, SchemaObject, SchemaProperty

SEVERITIES = {"critical": "critical", "error": "critical", "warning": "warning", "info": "info"}
BOUNDS = {
    "minimum": ("min_value", ""),
    "maximum": ("max_value", ""),
    "exclusiveMinimum": ("min_value", "strict_min"),
    "exclusiveMaximum": ("max_value", "strict_max"),
}
"""Options of numbers: the argument that each becomes, and the argument that makes it exclusive."""
CUSTOM_REMEDY = "write it as {type: custom, engine: greatExpectations, implementation: {type: expect_..., kwargs: ...}}"
SEVERITY_REMEDY = "write it beside type: critical (or error), warning, or info"
ABOUT_ALL_COLUMNS = "expect_table_column"  # begins the names of those that count or list the columns


class Compiled(NamedTuple):
    """The rules of a table, in the order of the file and with unique names, and the logical types of its columns."""

    rules: tuple[Rule, ...]
    types: Mapping[str, str]


def compile_table(
    file: ContractFile, columns: Columns | Sequence[str], table: str | None, context: ContractContext
) -> tuple[Compiled | None, list[Finding]]:
    """Compile one table of a contract (None: the first), and find everything that is wrong with it.

    ``columns`` are the table's, with the logical types that they are stored as, where those are known.
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
    compiler = _Compiler(file, stored, types, context)
    compiler.add_table(tables[number], ("schema", number))
    compiler.check_rules_together()
    return Compiled(tuple(_with_unique_names(placed.rule for placed in compiler.rules)), types), compiler.findings


@dataclass(frozen=True)
class _Compiler:
    """Collects rules and findings; ``stored`` has the types of columns where known, ``described`` the contract's."""

    file: ContractFile
    stored: Mapping[str, str | None]
    described: Mapping[str, str]
    context: ContractContext
    rules: list[Placed] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def add_table(self, table: SchemaObject, at: Place) -> None:
        properties = table.properties or []
        keys = [item.name or "" for item in properties if item.primaryKey]
        seen: set[str] = set()
        for index, item in enumerate(properties):
            name, place = item.name or "", (*at, "properties", index)
            if name in seen:
                self._report("duplicate-column", f"The column {name!r} is described twice", (*place, "name"),
                             "describe it once")  # fmt: skip
            seen.add(name)
            is_sound = self._check_column(item, place)
            if is_sound:
                self._add_property_rules(item, place, sole_key=len(keys) == 1)
            for number, rule in enumerate(item.quality or []):
                self._add_quality_rule(rule, (*place, "quality", number), name if is_sound else None, name)
        if len(keys) > 1 and seen.issuperset(keys):
            self._add("expect_compound_columns_to_be_unique", {"column_list": keys}, (*at, "properties"))
        for number, rule in enumerate(table.quality or []):
            self._add_quality_rule(rule, (*at, "quality", number), None, None)

    def check_rules_together(self) -> None:
        slow = endless(pattern for placed in self.rules for _, pattern in _patterns(placed.rule))
        for rule, at in self.rules:
            for name, pattern in _patterns(rule):
                if pattern in slow:
                    what = f"{rule.expectation}: {pattern!r} takes forever on some texts of 60 characters"
                    remedy = "avoid repetitions inside repetitions that match the same text, as in (\\w+\\s?)+"
                    self._report("regex", what, (*at, "kwargs", name), remedy)
        for placed, clash in clashes(self.rules):
            self._report(clash.code, clash.what, placed.at, clash.remedy, is_error=clash.is_error)

    def _report(self, code: str, what: str, at: Place, remedy: str, *, is_error: bool = True) -> None:
        self.findings.append(self.file.finding(code, what, at, remedy, is_error=is_error))

    def _check_column(self, item: SchemaProperty, at: Place) -> bool:
        name = item.name or ""
        if not self._is_known(name, (*at, "name")):
            return False
        stored = self.stored[name]
        if not item.logicalType or not stored or can_hold(stored, item.logicalType):
            return True
        what = f"The column {name!r} is stored as {stored}, not as {item.logicalType}"
        remedy = f"write logicalType: {stored}, and describe its text by a pattern or a quality rule"
        self._report("column-type", what, (*at, "logicalType"), remedy)
        return False

    def _is_known(self, column: str, at: Place) -> bool:
        if column in self.stored:
            return True
        what = f"The contract names the column {column!r}, which the rows do not have"
        remedy = f"{did_you_mean(column, self.stored)}columns: {', '.join(self.stored)}"
        self._report("unknown-column", what, at, remedy)
        return False

    def _add_property_rules(self, item: SchemaProperty, at: Place, sole_key: bool) -> None:
        column = {"column": item.name or ""}
        if item.required or item.primaryKey:
            key = "required" if item.required else "primaryKey"
            self._add("expect_column_values_to_not_be_null", column, (*at, key))
        if item.unique or (item.primaryKey and sole_key):
            key = "unique" if item.unique else "primaryKey"
            self._add("expect_column_values_to_be_unique", column, (*at, key))
        if item.enum:
            allowed = {"value_set": [choice.value for choice in item.enum]}
            self._add("expect_column_values_to_be_in_set", column | allowed, (*at, "enum"))
        self._add_option_rules(item, column, (*at, "logicalTypeOptions"))

    def _add_option_rules(self, item: SchemaProperty, column: Mapping[str, str], at: Place) -> None:
        options = dict(item.logicalTypeOptions or {})
        written = {"minLength": "min_value", "maxLength": "max_value"}
        lengths = {name: options.pop(name) for name in written if options.get(name) is not None}
        if lengths:
            given = {written[name]: value for name, value in lengths.items()}
            self._add("expect_column_value_lengths_to_be_between", {**column, **given}, (*at, next(iter(lengths))))
        if (pattern := options.pop("pattern", None)) is not None:
            self._add("expect_column_values_to_match_regex", {**column, "regex": pattern}, (*at, "pattern"))
        if item.logicalType in ("integer", "number"):
            self._add_bound_rules({name: options.pop(name) for name in BOUNDS if name in options}, column, at)
        for name in options:
            what = f"logicalTypeOptions.{name} of a {item.logicalType or 'property'} is not checked here"
            self._report("not-checked", what, (*at, name), f"remove it, or as a quality rule {CUSTOM_REMEDY}")

    def _add_bound_rules(self, bounds: dict[str, Any], column: Mapping[str, str], at: Place) -> None:
        while bounds:
            first_of_a_kind = {BOUNDS[name][0]: name for name in reversed(bounds)}
            chosen = [name for name in bounds if name in first_of_a_kind.values()]
            arguments: dict[str, Any] = {}
            for name in chosen:
                argument, strict = BOUNDS[name]
                arguments |= {argument: bounds.pop(name), **({strict: True} if strict else {})}
            self._add("expect_column_values_to_be_between", {**column, **arguments}, (*at, chosen[0]))

    def _add_quality_rule(self, rule: DataQuality, at: Place, column: str | None, written_under: str | None) -> None:
        """``column`` is the property that it belongs to, if sound; ``written_under`` the same, sound or not."""
        kind = rule.type or "library"
        if kind == "text":
            return
        if kind != "custom" or not is_great_expectations(rule.engine):
            named = f"type: {kind}" + (f", engine: {rule.engine}" if kind == "custom" else "")
            place = (*at, "engine" if kind == "custom" else "type")
            self._report("engine", f"A quality rule of {named} is not supported", place, CUSTOM_REMEDY)
            return
        where = (*at, "implementation")
        wanted = implementation_of(rule)
        if wanted is None:
            what = "implementation must have a type, may have kwargs, and nothing else"
            self._report("implementation", what, where, CUSTOM_REMEDY)
            return
        arguments = wanted.get("kwargs") or {}
        if not isinstance(arguments, dict):
            self._report("implementation", "kwargs is not a mapping", (*where, "kwargs"), CUSTOM_REMEDY)
            return
        severity = SEVERITIES.get((rule.severity or "critical").lower())
        if severity is None:
            self._report("severity", f"The severity {rule.severity!r} is unknown", (*at, "severity"), SEVERITY_REMEDY)
        if "severity" in arguments:
            self._report("severity", "The severity is in kwargs", (*where, "kwargs", "severity"), SEVERITY_REMEDY)
            arguments = {name: value for name, value in arguments.items() if name != "severity"}
        if written_under is not None and not arguments.keys() & {"column", "column_A", "column_list"}:
            if column is None:
                return  # the fault of its column is already reported
            arguments = {"column": column, **arguments}
        self._add(wanted["type"], arguments, where, severity or "critical", rule.name or "")

    def _add(
        self, expectation: str, arguments: Mapping[str, Any], at: Place, severity: str = "critical", name: str = ""
    ) -> None:
        found = catalogue.find_expectation(expectation)
        if found is None:
            near = catalogue.close_names(expectation)
            remedy = f"did you mean {' or '.join(near)}?" if near else "see https://greatexpectations.io/expectations"
            self._report("unknown-expectation", f"There is no expectation {expectation!r}", (*at, "type"), remedy)
            return
        if not catalogue.runs_on_pandas(found):
            what = f"{found} needs an SQL database"
            self._report("engine", what, (*at, "type"), "choose one that works on pandas")
            return
        filled = {**arguments, **self._given_by_recipe(found, arguments)}
        rule = Rule(
            found, found, filled, severity, self.file.where(at), "row" if catalogue.is_row_level(found) else "table"
        )
        if self._check_rule(rule, at):
            named = name or ".".join([*rule.columns[:1], found])
            self.rules.append(Placed(replace(rule, name=named, also_reads=self._also_reads(rule)), at))

    def _check_rule(self, rule: Rule, at: Place) -> bool:
        before = len(self.findings)
        types = {name: self.stored.get(name) or self.described.get(name) for name in rule.columns}
        for name in text_arguments(rule, types):
            if nodes := self._not_texts((*at, "kwargs", name)):
                what, _, remedy = quote_fault({name: nodes})
                self._report("not-text", f"{rule.expectation}: {what}", (*at, "kwargs", name), remedy)
        if len(self.findings) > before:
            return False
        for fault in (*catalogue.faults_of_arguments(rule.expectation, rule.arguments), *misfits(rule, types)):
            self._report(fault.code, fault.what, (*at, "kwargs", *filter(None, [fault.argument])), fault.remedy)
        for column in rule.columns:
            naming = [key for key, value in rule.arguments.items() if value == column][:1]
            self._is_known(column, (*at, "kwargs", *naming))
        return len(self.findings) == before

    def _not_texts(self, at: Place) -> list[yaml.ScalarNode]:
        """The items of a list in the file that are not text; the values of an ``enum`` are one level down."""
        listed = find_node(self.file.tree, at)[1]
        items = listed.value if isinstance(listed, yaml.SequenceNode) else []
        return not_texts(child_of(item, "value") or item for item in items)

    def _given_by_recipe(self, expectation: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        known = {argument: getattr(self.context, name) for argument, name in catalogue.from_recipe(expectation).items()}
        return {
            argument: list(value) if isinstance(value, tuple) else value
            for argument, value in known.items()
            if value and argument not in arguments
        }

    def _also_reads(self, rule: Rule) -> tuple[str, ...]:
        if rule.expectation.startswith(ABOUT_ALL_COLUMNS):
            return tuple(self.stored)
        words = set(re.findall(r"\w+", str(rule.arguments.get("row_condition") or "")))
        return tuple(column for column in self.stored if column in words)


def _patterns(rule: Rule) -> Iterator[tuple[str, str]]:
    for name in ("regex", "regex_list"):
        given = rule.arguments.get(name) or []
        yield from ((name, pattern) for pattern in ([given] if isinstance(given, str) else given))


def _with_unique_names(rules: Iterator[Rule]) -> Iterator[Rule]:
    seen: dict[str, int] = {}
    for rule in rules:
        seen[rule.name] = seen.get(rule.name, 0) + 1
        yield replace(rule, name=f"{rule.name} ({seen[rule.name]})") if seen[rule.name] > 1 else rule
