"""Which expectations exist, and which arguments each takes: Great Expectations' own, and ours.

Great Expectations ships its catalogue as JSON; reading that instead of importing the package (seconds) keeps the check
of a recipe quick. The few of its expectations that have no schema there have one here.
"""

from __future__ import annotations

import difflib
import importlib.util
import json
import math
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft7Validator
from jsonschema.exceptions import best_match
from pydantic import ValidationError

from tasks.validate.contracts.expectations.classes import expectation_class
from tasks.validate.contracts.expectations.own import RowCheck
from tasks.validate.contracts.expectations.registry import OWN

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
"""Great Expectations' own that its catalogue only names: the arguments beside those of every rule on rows."""


@cache
def catalogue() -> dict[str, dict[str, Any]]:
    """Every expectation by its snake-case name; the value is empty where Great Expectations ships no schema.

    Ours take the place of Great Expectations' own of the same name.
    """
    index = json.loads((_schema_folder() / "index.json").read_text(encoding="utf-8"))
    return {**{name: {} for name in (*index["documented_absent"], *OWN)}, **index["expectations"]}


def find_expectation(written: str) -> str | None:
    """The expectation's snake-case name, written that way or as its class is named; None if there is none."""
    plain = _plain(written)
    return next((name for name in catalogue() if _plain(name) == plain), None)


def close_names(written: str) -> list[str]:
    """Existing names that resemble one that does not exist, the nearest first."""
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
    """Arguments that a recipe knows where a contract leaves them out: argument -> field of ``ContractContext``."""
    own = OWN.get(expectation)
    return own.arguments.from_recipe if own else {}


def what_is_wrong(expectation: str, arguments: Mapping[str, Any]) -> str | None:
    """Why these arguments do not fit the expectation, or None."""
    for name, value in arguments.items():
        if isinstance(value, float) and not math.isfinite(value):
            return f"{name}: {value} is no finite number"
    for name in ("regex", "regex_list"):
        if problem := _regex_problem(arguments.get(name)):
            return f"{name}: {problem}"
    schema = _schema_of(expectation)
    unknown = sorted(set(arguments) - set(schema["properties"]))
    if unknown:
        return f"unknown argument {unknown[0]!r}; it takes {', '.join(_own_arguments(schema))}"
    missing = [name for name in schema.get("required", ()) if name not in arguments]
    if missing:
        return f"the argument {missing[0]!r} is missing"
    error = best_match(Draft7Validator(schema).iter_errors(dict(arguments)))
    if error:
        return f"{'.'.join(str(part) for part in error.absolute_path)}: {error.message}"
    return _what_our_model_says(expectation, arguments) or _what_its_class_says(expectation, arguments)


def _what_its_class_says(expectation: str, arguments: Mapping[str, Any]) -> str | None:
    """Of texts, which Great Expectations reads as dates or formats and its schemas do not judge."""
    read = [name for name in READ_BY_ITS_CLASS if isinstance(arguments.get(name), str)]
    if expectation in OWN or not read:
        return None
    try:
        expectation_class(expectation)(**arguments)
    except ValueError:
        name = read[0]
        kind = "no format of dates" if name == "strftime_format" else "neither a number nor a date"
        return f"{name}: {arguments[name]!r} is {kind}"
    return None


def _what_our_model_says(expectation: str, arguments: Mapping[str, Any]) -> str | None:
    own = OWN.get(expectation)
    if own is None:
        return None
    try:
        own.arguments.model_validate(
            {name: arguments[name] for name in own.arguments.model_fields if name in arguments}
        )
    except ValidationError as error:
        return next(_in_words(error))
    return None


def _in_words(error: ValidationError) -> Iterator[str]:
    """The problems that a model found: ``min_value: Input should be ...``."""
    for problem in error.errors(include_url=False):
        place = ".".join(str(part) for part in problem["loc"])
        said = problem["msg"].removeprefix("Value error, ")
        yield f"{place}: {said}" if place else said


def _regex_problem(patterns: Any) -> str | None:
    for pattern in patterns if isinstance(patterns, list) else [patterns]:
        try:
            re.compile(pattern if isinstance(pattern, str) else "")
        except re.error as error:
            return f"{pattern!r} is no regular expression: {error}"
    return None


def _schema_of(expectation: str) -> dict[str, Any]:
    """The JSON schema of an expectation's arguments; of ours, types and bounds are left to the model."""
    if own := OWN.get(expectation):
        fields = own.arguments.model_fields
        like = A_ROW_RULE if isinstance(own, RowCheck) else A_TABLE_RULE
        return _like(like, {name: {} for name in fields}, [name for name in fields if fields[name].is_required()])
    entry = catalogue()[expectation]
    return _argument_schema(entry["schema_file"]) if entry else _like(A_ROW_RULE, WITHOUT_SCHEMA[expectation], [])


def _like(file_name: str, properties: Mapping[str, Any], required: list[str]) -> dict[str, Any]:
    """The schema of a rule on a column, with further arguments."""
    schema = _argument_schema(file_name)
    common = {name: options for name, options in schema["properties"].items() if name not in BOUNDS}
    return {**schema, "properties": {**common, **properties}, "required": ["column", *required]}


@cache
def _argument_schema(file_name: str) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads((_schema_folder() / file_name).read_text(encoding="utf-8"))
    for options in schema["properties"].values():
        options.pop("multipleOf", None)  # of a float it refuses good values: 0.29 / 0.01 is no whole number
    return schema


def _own_arguments(schema: Mapping[str, Any]) -> list[str]:
    """The arguments that are not common to all expectations."""
    common = _argument_schema("ExpectTableRowCountToEqual.json")["properties"].keys() - {"value", "row_condition"}
    return [name for name in schema["properties"] if name not in common and name != "metadata"]


def _schema_folder() -> Path:
    spec = importlib.util.find_spec("great_expectations")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("great_expectations is not installed")
    return Path(spec.origin).parent / SCHEMAS


def _plain(name: str) -> str:
    return name.replace("_", "").lower()
