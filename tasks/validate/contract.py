"""Compile a data contract to rules, without running any of them.

Compiled: of a property ``required``, ``unique``, ``primaryKey``, ``enum`` and the lengths, pattern and bounds in
``logicalTypeOptions``; and every quality rule of ``type: custom, engine: greatExpectations``. ``type: text`` is prose.
Not compiled: ``logicalType`` and the inner properties of ``messages``, whose shape the stage checks anyway.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tasks.core.errors import ContractError
from tasks.validate.expectations import close_names, find_expectation, runs_on_pandas, what_is_wrong
from tasks.validate.odcs import ContractFile

if TYPE_CHECKING:
    from open_data_contract_standard.model import DataQuality, SchemaProperty

LINEAGE = (
    "row_id", "origin", "document_id", "prompt", "prompt_digest", "request_id", "raw", "teacher", "teacher_revision",
    "sampling", "seed", "run_id",
)  # fmt: skip
CONVERSATION = ("messages", "user_text", "assistant_text")
SEVERITIES = {"critical": "critical", "error": "critical", "warning": "warning", "info": "info"}
BOUNDS: dict[str, dict[str, bool | None]] = {
    "minimum": {"min_value": None},
    "maximum": {"max_value": None},
    "exclusiveMinimum": {"min_value": None, "strict_min": True},
    "exclusiveMaximum": {"max_value": None, "strict_max": True},
}
CUSTOM_REMEDY = "write it as {type: custom, engine: greatExpectations, implementation: {type: expect_..., kwargs: ...}}"


@dataclass(frozen=True)
class Rule:
    """One expectation of a contract.

    Attributes:
        name: by what people find it: ``column.expectation``, or the name its author gave it.
        expectation: its snake-case name in Great Expectations.
        arguments: its keyword arguments.
        severity: critical (rows are quarantined, tables stop the run), warning or info (reported only).
        where: file and line.
    """

    name: str
    expectation: str
    arguments: Mapping[str, Any]
    severity: str
    where: str

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns it reads."""
        single = [self.arguments[key] for key in ("column", "column_A", "column_B") if key in self.arguments]
        listed = self.arguments.get("column_list") or []
        return tuple(str(name) for name in [*single, *listed])

    @property
    def tolerance_is_set(self) -> bool:
        """Whether its author said how many rows may break it: more than that stops the run."""
        return "mostly" in self.arguments


@dataclass(frozen=True)
class Contract:
    """A contract that was read and checked."""

    path: Path
    name: str
    rules: tuple[Rule, ...]


def contract_columns(fields: Sequence[str]) -> tuple[str, ...]:
    """The columns a contract can name: the recipe's fields, the lineage, and the conversation.

    ``messages`` is the conversation as JSON text, ``user_text`` and ``assistant_text`` what each of them said.

    Raises:
        ContractError: a field has the name of a column that every row has anyway.
    """
    taken = sorted({*fields} & {*LINEAGE, *CONVERSATION})
    if taken:
        raise ContractError(
            f"The field {taken[0]!r} has the name of a column that every row has",
            where="the recipe's column mapping",
            remedy="map the column to another name",
        )
    return (*fields, *LINEAGE, *CONVERSATION)


def check_contract(path: Path, columns: Sequence[str]) -> None:
    """Find what is wrong with a contract before anything runs. Errors: as :func:`read_contract`."""
    read_contract(path, columns)


def read_contract(path: Path, columns: Sequence[str]) -> Contract:
    """Read a contract for a table of these columns, and find everything that can be wrong with it.

    Raises:
        ContractError: the file is missing or no ODCS, or a rule names an unknown column, an unknown expectation or
            arguments that it does not take; with file and line.
    """
    return _Compiler(ContractFile.read(path), tuple(columns)).contract()


@dataclass(frozen=True)
class _Compiler:
    """Turns a contract file into rules on these columns."""

    file: ContractFile
    columns: tuple[str, ...]

    def contract(self) -> Contract:
        document = self.file.document
        tables = document.schema_ or []
        if len(tables) != 1:
            raise self.file.error(
                f"The contract describes {len(tables)} tables", ("schema",), "describe one table under schema"
            )
        rules = list(self._table_rules(tables[0].properties or [], tables[0].quality or []))
        return Contract(
            self.file.path, document.name or document.id or self.file.path.stem, tuple(_with_unique_names(rules))
        )

    def _table_rules(self, properties: Sequence[SchemaProperty], quality: Sequence[DataQuality]) -> Iterator[Rule]:
        keys = [item.name or "" for item in properties if item.primaryKey]
        for index, item in enumerate(properties):
            at = ("schema", 0, "properties", index)
            self._check_column(item.name or "", (*at, "name"))
            yield from self._property_rules(item, at, sole_key=len(keys) == 1)
            for number, rule in enumerate(item.quality or []):
                yield from self._quality_rule(rule, (*at, "quality", number), item.name)
        if len(keys) > 1:
            yield self._rule("expect_compound_columns_to_be_unique", {"column_list": keys}, ("schema", 0, "properties"))
        for number, rule in enumerate(quality):
            yield from self._quality_rule(rule, ("schema", 0, "quality", number), None)

    def _property_rules(self, item: SchemaProperty, at: tuple[str | int, ...], sole_key: bool) -> Iterator[Rule]:
        column = {"column": item.name or ""}
        if item.required or item.primaryKey:
            yield self._rule("expect_column_values_to_not_be_null", column, (*at, "required"))
        if item.unique or (item.primaryKey and sole_key):
            yield self._rule("expect_column_values_to_be_unique", column, (*at, "unique"))
        if item.enum:
            allowed = {"value_set": [choice.value for choice in item.enum]}
            yield self._rule("expect_column_values_to_be_in_set", column | allowed, (*at, "enum"))
        yield from self._option_rules(item, column, (*at, "logicalTypeOptions"))

    def _option_rules(self, item: SchemaProperty, column: dict[str, str], at: tuple[str | int, ...]) -> Iterator[Rule]:
        options = dict(item.logicalTypeOptions or {})
        lengths = {"min_value": options.pop("minLength", None), "max_value": options.pop("maxLength", None)}
        if any(value is not None for value in lengths.values()):
            given = {name: value for name, value in lengths.items() if value is not None}
            yield self._rule("expect_column_value_lengths_to_be_between", column | given, at)
        if (pattern := options.pop("pattern", None)) is not None:
            yield self._rule("expect_column_values_to_match_regex", column | {"regex": pattern}, (*at, "pattern"))
        if item.logicalType in ("integer", "number"):
            for name, arguments in BOUNDS.items():
                if name in options:
                    bound = {key: options[name] if value is None else value for key, value in arguments.items()}
                    del options[name]
                    yield self._rule("expect_column_values_to_be_between", column | bound, (*at, name))
        for name in options:
            raise self.file.error(
                f"logicalTypeOptions.{name} of a {item.logicalType or 'property'} is not checked here",
                (*at, name),
                f"remove it, or as a quality rule {CUSTOM_REMEDY}",
            )

    def _quality_rule(self, rule: DataQuality, at: tuple[str | int, ...], column: str | None) -> Iterator[Rule]:
        kind = rule.type or "library"
        if kind == "text":
            return
        if kind != "custom" or _plain(rule.engine) != "greatexpectations":
            named = f"type: {kind}" + (f", engine: {rule.engine}" if kind == "custom" else "")
            raise self.file.error(f"A quality rule of {named} is not supported", at, CUSTOM_REMEDY)
        where = (*at, "implementation")
        wanted = yaml.safe_load(rule.implementation) if isinstance(rule.implementation, str) else rule.implementation
        if not isinstance(wanted, dict) or not isinstance(wanted.get("type"), str) or set(wanted) - {"type", "kwargs"}:
            raise self.file.error(
                "implementation must have a type, may have kwargs, and nothing else", where, CUSTOM_REMEDY
            )
        arguments = wanted.get("kwargs") or {}
        if not isinstance(arguments, dict):
            raise self.file.error("kwargs is no mapping", (*where, "kwargs"), CUSTOM_REMEDY)
        severity = SEVERITIES.get((rule.severity or "critical").lower())
        if severity is None or "severity" in arguments:
            raise self.file.error(
                f"The severity {rule.severity!r} is unknown, or stands in kwargs",
                (*at, "severity"),
                "write it beside type: critical (or error), warning, or info",
            )
        takes_column = column is not None and not arguments.keys() & {"column", "column_A", "column_list"}
        filled = {"column": column, **arguments} if takes_column else arguments
        yield self._rule(wanted["type"], filled, where, severity, rule.name)

    def _rule(
        self,
        expectation: str,
        arguments: Mapping[str, Any],
        at: tuple[str | int, ...],
        severity: str = "critical",
        name: str | None = None,
    ) -> Rule:
        found = find_expectation(expectation)
        if found is None:
            near = close_names(expectation)
            raise self.file.error(
                f"Great Expectations has no {expectation!r}",
                (*at, "type"),
                f"did you mean {' or '.join(near)}?" if near else "see https://greatexpectations.io/expectations",
            )
        if not runs_on_pandas(found):
            raise self.file.error(f"{found} needs an SQL database", (*at, "type"), "choose one that works on pandas")
        if problem := what_is_wrong(found, arguments):
            raise self.file.error(f"{found}: {problem}", (*at, "kwargs"), "correct kwargs")
        rule = Rule(found, found, dict(arguments), severity, self.file.where(at))
        for column in rule.columns:
            self._check_column(column, (*at, "kwargs"))
        return replace(rule, name=name or ".".join([*rule.columns[:1], found]))

    def _check_column(self, column: str, at: Sequence[str | int]) -> None:
        if column not in self.columns:
            near = difflib.get_close_matches(column, self.columns, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise self.file.error(
                f"The contract names the column {column!r}, which the rows do not have",
                at,
                f"{hint}columns: {', '.join(self.columns)}",
            )


def _plain(engine: str | None) -> str:
    return (engine or "").replace("_", "").replace("-", "").replace(" ", "").lower()


def _with_unique_names(rules: Sequence[Rule]) -> Iterator[Rule]:
    """The same rules; a name that was used before gets a number."""
    seen: dict[str, int] = {}
    for rule in rules:
        seen[rule.name] = seen.get(rule.name, 0) + 1
        suffix = f" ({seen[rule.name]})" if seen[rule.name] > 1 else ""
        yield replace(rule, name=rule.name + suffix)
