"""Parse an answer into rows: fields, or the broken rule."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import create
from referencing import Registry
from referencing.exceptions import Unresolvable

from tasks.core.answer_store import Answer
from tasks.core.files import canonical_json, storable
from tasks.core.patterns import matches
from tasks.core.prompts import Output
from tasks.core.vllm.request import ROWS

FENCE = re.compile(r"^```[ \t]*(?:json)?[ \t]*\r?\n(.*)\n[ \t]*```$", re.DOTALL | re.IGNORECASE)
LIST_MARK = re.compile(r"^(?:[-*\u2022]|\(?\d{1,4}[.)])(?:\s+|$)")
"""Marks of a list item: "-", "*", a bullet, "1.", "1)" or "(1)", followed by white space."""
MESSAGE_CHARACTERS = 300  # a schema error quotes the value
CUT_OFF = {
    "length": "ran into max_tokens",
    "content_filter": "was cut off by the server's content filter",
    "abort": "was aborted by the server",
}
NO_TEXT = "encoding: the answer contains a lone surrogate, which is not text"


@dataclass(frozen=True)
class Written:
    """One row of an answer: text by column, or ``rule: detail`` of the broken rule."""

    fields: Mapping[str, str] = field(default_factory=dict)
    problem: str | None = None


def parse(output: Output, answer: Answer) -> list[Written]:
    """The rows of an answer, at least one: an unreadable answer is one row with the broken rule.

    ``text`` is one row; ``lines`` a row for each non-blank line, without its list mark (``-``, ``1.``); ``json`` a row
    for an object, or for each item of an array, so that a bad item costs only itself. JSON is validated again, whatever
    the server promised; values other than text are kept as JSON.
    """
    if problem := rejection(answer):
        return [Written(problem=problem)]
    text = answer.text.strip()
    if output.format == "json":
        return _json_rows(text, output.json_schema or {})
    if output.format == "text":
        return [Written({output.field: text})]
    lines = (LIST_MARK.sub("", line.strip()).strip() for line in text.splitlines())
    return [Written({output.field: line}) for line in lines if line] or [Written(problem="empty: no line has text")]


def rejection(answer: Answer) -> str | None:
    """Why an answer cannot be used at all, or None."""
    if answer.is_refused or answer.is_failed:
        return answer.finish_reason
    if answer.finish_reason in CUT_OFF:
        return f"truncated: the answer {CUT_OFF[answer.finish_reason]}"
    if not answer.text.strip():
        return "empty: the answer has no text"
    return None if is_storable(answer.text) else NO_TEXT


def plain_json(text: str) -> Any:
    """Parse JSON text with finite numbers only.

    Raises ValueError: it is not valid JSON, or has NaN, Infinity, or a number beyond a float (1e999); RecursionError:
    it is nested too deeply.
    """
    return json.loads(text, parse_constant=_refuse, parse_float=_finite)


def is_storable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _json_rows(text: str, schema: Mapping[str, Any]) -> list[Written]:
    try:
        fenced = FENCE.match(text)
        value = plain_json(fenced[1] if fenced else text)
        if schema.get("type") == "array" and isinstance(value, dict) and value.keys() == {ROWS}:
            value = value[ROWS]  # for servers whose schemas must be objects
        broken = _broken(value, schema)
        items = value if isinstance(value, list) and schema.get("type") == "array" else [value]
        if None in broken:
            return [Written(problem=broken[None])]
        if not items:
            return [Written(problem="empty: the answer is an array without items")]
        return [
            Written(problem=broken[number]) if number in broken else _json_row(item)
            for number, item in enumerate(items)
        ]
    except (ValueError, RecursionError, OverflowError) as error:  # the last: 10**400, which a schema cannot check
        return [Written(problem=f"unparseable: not valid JSON ({error})")]
    except (TimeoutError, Unresolvable) as error:
        return [Written(problem=f"schema: the answer cannot be validated: {str(error)[:MESSAGE_CHARACTERS]}")]


def _broken(value: Any, schema: Mapping[str, Any]) -> dict[int | None, str]:
    """The first broken rule of the schema by item index; under None that of the whole answer."""
    found: dict[int | None, str] = {}
    for error in AnswerValidator(schema, registry=Registry()).iter_errors(value):
        path = error.absolute_path if isinstance(value, list) else []
        at = path[0] if path and isinstance(path[0], int) else None
        found.setdefault(at, f"schema: {storable(error.message[:MESSAGE_CHARACTERS])}")
    return found


def _json_row(item: Any) -> Written:
    if not isinstance(item, dict):
        return Written(problem="schema: the answer is not an object")
    fields = {name: value if isinstance(value, str) else canonical_json(value) for name, value in item.items()}
    if all(is_storable(name + value) for name, value in fields.items()):
        return Written(fields)
    return Written(problem=NO_TEXT)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse(text)


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[ValidationError]:
    """The keyword ``pattern`` with a time limit, which jsonschema's own lacks."""
    if validator.is_type(instance, "string") and not matches(pattern, instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


AnswerValidator = create(
    Draft202012Validator.META_SCHEMA,
    {**Draft202012Validator.VALIDATORS, "pattern": _pattern},
    type_checker=Draft202012Validator.TYPE_CHECKER,
)
