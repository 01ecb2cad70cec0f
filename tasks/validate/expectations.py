"""Great Expectations' own catalogue: which expectations exist, and which arguments each takes.

The package ships its catalogue as JSON; reading that instead of importing the package (seconds) keeps the check of a
recipe quick. Five expectations have no schema there; only for those is the package imported.
"""

from __future__ import annotations

import difflib
import importlib.util
import json
import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft7Validator
from jsonschema.exceptions import best_match

SCHEMAS = Path("expectations", "core", "schemas")


@cache
def catalogue() -> dict[str, dict[str, Any]]:
    """Every expectation by its snake-case name; the value is empty where Great Expectations ships no schema."""
    index = json.loads((_schema_folder() / "index.json").read_text(encoding="utf-8"))
    return {**{name: {} for name in index["documented_absent"]}, **index["expectations"]}


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


def what_is_wrong(expectation: str, arguments: Mapping[str, Any]) -> str | None:
    """Why these arguments do not fit the expectation, or None."""
    for name in ("regex", "regex_list"):
        if problem := _regex_problem(arguments.get(name)):
            return f"{name}: {problem}"
    entry = catalogue()[expectation]
    if not entry:
        return _what_the_class_says(expectation, arguments)
    schema = _argument_schema(entry["schema_file"])
    unknown = sorted(set(arguments) - set(schema["properties"]))
    if unknown:
        return f"unknown argument {unknown[0]!r}; it takes {', '.join(_own_arguments(schema))}"
    missing = [name for name in schema.get("required", ()) if name not in arguments]
    if missing:
        return f"the argument {missing[0]!r} is missing"
    error = best_match(Draft7Validator(schema).iter_errors(dict(arguments)))
    return f"{'.'.join(str(part) for part in error.absolute_path)}: {error.message}" if error else None


def load_great_expectations() -> Any:
    """Import Great Expectations (seconds), with its telemetry off."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations

    return great_expectations


def expectation_class(expectation: str) -> Any:
    """The class of an expectation in the catalogue."""
    classes = load_great_expectations().expectations
    return next(getattr(classes, name) for name in dir(classes) if _plain(name) == _plain(expectation))


def _what_the_class_says(expectation: str, arguments: Mapping[str, Any]) -> str | None:
    try:
        expectation_class(expectation)(**arguments)
    except (ValueError, TypeError) as error:
        return " ".join(str(error).split())
    return None


def _regex_problem(patterns: Any) -> str | None:
    for pattern in patterns if isinstance(patterns, list) else [patterns]:
        try:
            re.compile(pattern if isinstance(pattern, str) else "")
        except re.error as error:
            return f"{pattern!r} is no regular expression: {error}"
    return None


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
