"""Which expectations exist, Great Expectations' own and ours, and which arguments each takes.

Its catalogue is read from the JSON that it ships: importing the package takes seconds.
"""

from __future__ import annotations

import difflib
import importlib.util
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft7Validator
from jsonschema.exceptions import best_match
from pydantic import ValidationError

from tasks.validate.contracts.expectations.classes import OWN, shipped_class
from tasks.validate.contracts.expectations.own import RowCheck
from tasks.validate.contracts.rule import Fault
from tasks.validate.contracts.vacuous_rules import why_vacuous

SCHEMAS = Path("expectations", "core", "schemas")
A_ROW_RULE = "ExpectColumnValuesToNotBeNull.json"
A_TABLE_RULE = "ExpectColumnMaxToBeBetween.json"
BOUNDS = ("min_value", "max_value", "strict_min", "strict_max")
READ_BY_ITS_CLASS = ("min_value", "max_value", "strftime_format")
STRICTLY = {"strictly": {"type": "boolean"}}
WITHOUT_SCHEMA: dict[str, dict[str, Any]] = {
    "expect_column_values_to_be_dateutil_parseable": {},
    "expect_column_values_to_be_decreasing": STRICTLY,
    "expect_column_values_to_be_increasing": STRICTLY,
    "expect_column_values_to_be_json_parseable": {},
}
"""Great Expectations' own without a schema: their arguments, without those of every rule on rows."""
CODES = {"regex": "regex", "mostly": "bad-range", "min": "bad-range", "max": "bad-range"}
"""Codes of faults, by the beginning of the argument's name; the others are ``arguments``."""


@cache
def catalogue() -> dict[str, dict[str, Any]]:
    """Every expectation by its snake-case name; the value is empty where Great Expectations ships no schema."""
    index = json.loads((_schema_folder() / "index.json").read_text(encoding="utf-8"))
    return {**{name: {} for name in (*index["documented_absent"], *OWN)}, **index["expectations"]}


def find_expectation(written: str) -> str | None:
    """The snake-case name of an expectation, given in snake case or as the class name; None if there is none."""
    plain = _plain(written)
    return next((name for name in catalogue() if _plain(name) == plain), None)


def close_names(written: str) -> list[str]:
    names = {_plain(name): name for name in catalogue()}
    return [names[near] for near in difflib.get_close_matches(_plain(written), names, n=3, cutoff=0.6)]


def runs_on_pandas(expectation: str) -> bool:
    """Whether it can check a table in memory; the others need an SQL database."""
    entry = catalogue()[expectation]
    return not entry or "Pandas" in entry["supported_data_sources"]


def is_row_level(expectation: str) -> bool:
    """Whether it names the rows that break it; the others judge the table, or a column as a whole."""
    if own := OWN.get(expectation):
        return isinstance(own, RowCheck)
    entry = catalogue()[expectation]
    if not entry:
        return True
    metadata = _argument_schema(entry["schema_file"])["properties"]["metadata"]
    return str(metadata["properties"]["domain_type"]["description"]).endswith("Map")


def from_recipe(expectation: str) -> Mapping[str, str]:
    own = OWN.get(expectation)
    return own.arguments.from_recipe if own else {}


def faults_of_arguments(expectation: str, arguments: Mapping[str, Any]) -> Iterator[Fault]:
    """Everything that is wrong with a rule's arguments; if nothing is, why the rule decides nothing."""
    left = dict(arguments)
    while problem := what_is_wrong(expectation, left):
        argument = next((name for name in left if problem.startswith(name) or f"argument {name!r}" in problem), None)
        if argument is None and len(left) < len(arguments):
            return  # the problem may be about an argument that was left out
        code = next((code for start, code in CODES.items() if problem.startswith(start)), "arguments")
        yield Fault(code, f"{expectation}: {problem}", _remedy(problem, expectation), argument)
        if argument is None:
            return
        del left[argument]
    if len(left) == len(arguments) and (vacuous := why_vacuous(expectation, arguments)):
        yield replace(vacuous, what=f"{expectation}: {vacuous.what}")


def what_is_wrong(expectation: str, arguments: Mapping[str, Any]) -> str | None:
    for name, value in arguments.items():
        if isinstance(value, float) and not math.isfinite(value):
            return f"{name}: {value} is not a finite number"
    for name in ("regex", "regex_list"):
        if problem := _regex_problem(arguments.get(name)):
            return f"{name}: {problem}"
    schema = _schema_of(expectation)
    if unknown := sorted(set(arguments) - set(schema["properties"])):
        return f"unknown argument {unknown[0]!r}; it takes {', '.join(_own_arguments(schema))}"
    if missing := [name for name in schema.get("required", ()) if name not in arguments]:
        return f"the argument {missing[0]!r} is missing"
    error = best_match(Draft7Validator(schema).iter_errors(dict(arguments)))
    if error:
        return f"{'.'.join(str(part) for part in error.absolute_path)}: {error.message}"
    return _model_problem(expectation, arguments) or _class_problem(expectation, arguments)


def _remedy(problem: str, expectation: str) -> str:
    if "finite" in problem:
        return "write a number, or leave it out for no bound"
    missing = next((name for name in from_recipe(expectation) if f"{name!r} is missing" in problem), None)
    return f"write {missing} in kwargs; in a night, a recipe gives it" if missing else "correct kwargs"


def _class_problem(expectation: str, arguments: Mapping[str, Any]) -> str | None:
    """A problem with texts that Great Expectations parses as dates or formats, which its schemas do not check."""
    parsed = [name for name in READ_BY_ITS_CLASS if isinstance(arguments.get(name), str)]
    if expectation in OWN or not parsed:
        return None
    try:
        shipped_class(expectation)(**arguments)
    except ValueError:
        name = parsed[0]
        kind = "not a date format" if name == "strftime_format" else "neither a number nor a date"
        return f"{name}: {arguments[name]!r} is {kind}"
    return None


def _model_problem(expectation: str, arguments: Mapping[str, Any]) -> str | None:
    if (own := OWN.get(expectation)) is None:
        return None
    model = own.arguments
    try:
        model.model_validate({name: arguments[name] for name in model.model_fields if name in arguments})
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        return f"{place}: {message}" if place else message
    return None


def _regex_problem(patterns: Any) -> str | None:
    for pattern in patterns if isinstance(patterns, list) else [patterns]:
        try:
            re.compile(pattern if isinstance(pattern, str) else "")
        except re.error as error:
            return f"{pattern!r} is not a valid regular expression: {error}"
    return None


def _schema_of(expectation: str) -> dict[str, Any]:
    """The JSON schema of an expectation's arguments. For ours, the model checks types and bounds."""
    if own := OWN.get(expectation):
        fields = own.arguments.model_fields
        like = A_ROW_RULE if isinstance(own, RowCheck) else A_TABLE_RULE
        return _like(like, {name: {} for name in fields}, [name for name in fields if fields[name].is_required()])
    entry = catalogue()[expectation]
    return _argument_schema(entry["schema_file"]) if entry else _like(A_ROW_RULE, WITHOUT_SCHEMA[expectation], [])


def _like(file_name: str, properties: Mapping[str, Any], required: list[str]) -> dict[str, Any]:
    schema = _argument_schema(file_name)
    common = {name: options for name, options in schema["properties"].items() if name not in BOUNDS}
    return {**schema, "properties": {**common, **properties}, "required": ["column", *required]}


@cache
def _argument_schema(file_name: str) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads((_schema_folder() / file_name).read_text(encoding="utf-8"))
    for options in schema["properties"].values():
        options.pop("multipleOf", None)  # it refuses valid floats: 0.29 / 0.01 is not a whole number
    return schema


def _own_arguments(schema: Mapping[str, Any]) -> list[str]:
    common = _argument_schema("ExpectTableRowCountToEqual.json")["properties"].keys() - {"value", "row_condition"}
    return [name for name in schema["properties"] if name not in common and name != "metadata"]


def _schema_folder() -> Path:
    spec = importlib.util.find_spec("great_expectations")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("great_expectations is not installed")
    return Path(spec.origin).parent / SCHEMAS


def _plain(name: str) -> str:
    return name.replace("_", "").lower()
