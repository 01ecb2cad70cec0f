"""Parse an answer into rows: fields, or the broken rule."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import create
from referencing import Registry
from referencing.exceptions import Unresolvable

from tasks.core.answer_store import Answer
from tasks.core.characters import broken_command, is_blank
from tasks.core.files import canonical_json, storable
from tasks.core.json_text import strict_json
from tasks.core.patterns import matches
from tasks.core.prompts import Output
from tasks.core.reasoning import reasoning_mark, without_reasoning
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
SHOWN_MARK = 40
NO_LINE = "empty: no line has text"
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
    the server promised; values other than text are kept as JSON. Reasoning is cut or rejected as the prompt states.
    """
    try:
        if output.format == "json":
            return _json_rows(output, _usable(answer))
        text = answered(output, answer)
    except Unusable as unusable:
        return [Written(problem=str(unusable))]
    if output.format == "text":
        return [Written({output.field: text})]
    lines = (LIST_MARK.sub("", line.strip()).strip() for line in text.splitlines())
    return [Written({output.field: line}) for line in lines if not is_blank(line)] or [Written(problem=NO_LINE)]


class Unusable(Exception):
    """An answer, or a part of it, that gives no row: ``rule: detail``."""


def answered(output: Output, answer: Answer) -> str:
    """The text of an answer without white space around it and without reasoning. Raises Unusable."""
    return _without_reasoning(output, _usable(answer))


def _usable(answer: Answer) -> str:
    if answer.is_refused or answer.is_failed:
        raise Unusable(answer.finish_reason)
    if answer.finish_reason in CUT_OFF:
        raise Unusable(f"truncated: the answer {CUT_OFF[answer.finish_reason]}")
    if is_blank(answer.text):
        raise Unusable("empty: the answer has no text")
    if not is_storable(answer.text):
        raise Unusable(NO_TEXT)
    return answer.text.strip()


def _without_reasoning(output: Output, text: str) -> str:
    mark = reasoning_mark(text)
    if mark is None:
        return text
    if output.reasoning == "reject":
        raise Unusable(f"reasoning: the answer contains {mark[:SHOWN_MARK]!r}, and output.reasoning is reject")
    answer = without_reasoning(text)
    if answer is None:
        raise Unusable(f"reasoning: {mark[:SHOWN_MARK]!r} begins reasoning that does not end: there is no answer")
    if is_blank(answer):
        raise Unusable("empty: the answer has only reasoning")
    return answer


def is_storable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _json_rows(output: Output, text: str) -> list[Written]:
    schema = output.json_schema or {}
    try:
        value = _read_json(output, text)
        if schema.get("type") == "array" and isinstance(value, dict) and value.keys() == {ROWS}:
            value = value[ROWS]  # for servers whose schemas must be objects
        has_several = isinstance(value, list) and schema.get("type") == "array"
        items, unusable = _checked_items(output, value if has_several else [value])
        broken = _broken(items if has_several else items[0], schema) | unusable
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


def _read_json(output: Output, text: str) -> Any:
    """The value of an answer; reasoning may be around its JSON, or in its texts, which each row is read for."""
    try:
        return strict_json(text)
    except ValueError:
        text = _without_reasoning(output, text)
        fenced = FENCE.match(text)
        return strict_json(fenced[1] if fenced else text)


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
    return Written({name: value if isinstance(value, str) else canonical_json(value) for name, value in item.items()})


def _checked_items(output: Output, items: list[Any]) -> tuple[list[Any], dict[int | None, str]]:
    """The items as :func:`_checked`; and why one is unusable, by its index."""
    checked = list(items)
    unusable: dict[int | None, str] = {}
    for number, item in enumerate(items):
        try:
            checked[number] = _checked(output, item)
        except Unusable as reason:
            unusable[number] = str(reason)
    return checked, unusable


def _checked(output: Output, value: Any) -> Any:
    """A value with each of its texts checked, and without the reasoning in them. Raises Unusable."""
    if isinstance(value, list):
        return [_checked(output, item) for item in value]
    if isinstance(value, dict):
        if not all(map(is_storable, value)):
            raise Unusable(NO_TEXT)
        return {name: _checked(output, inner) for name, inner in value.items()}
    if not isinstance(value, str):
        return value
    if not is_storable(value):
        raise Unusable(NO_TEXT)
    if command := broken_command(value):
        raise Unusable(f"latex: the backslash of {command} was read as an escape of JSON, which needs \\{command}")
    return _without_reasoning(output, value)


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[ValidationError]:
    """The keyword ``pattern`` with a time limit, which jsonschema's own lacks."""
    if validator.is_type(instance, "string") and not matches(pattern, instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


AnswerValidator = create(
    Draft202012Validator.META_SCHEMA,
    {**Draft202012Validator.VALIDATORS, "pattern": _pattern},
    type_checker=Draft202012Validator.TYPE_CHECKER,
)
