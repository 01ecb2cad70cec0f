"""Check an output: its schema's required properties, its columns, the length of its answers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from retune.prompts.lint_template import LintedTemplate
from tasks.core.findings import Finding
from tasks.core.suggestions import did_you_mean
from tasks.core.tables import CONVERSATION, GENERATED, LINEAGE
from tasks.core.yaml_tree import Place

CHARACTERS_PER_TOKEN = 5
"""More than tokenizers reach on JSON, so a limit below this estimate is always too low."""


def output_findings(template: LintedTemplate) -> Iterator[Finding]:
    """Faults of a template's output that do not depend on a recipe."""
    yield from _required(template)
    yield from _reserved(template)
    yield from _too_short(template)


def shortest_answer(schema: Any) -> int:
    """About the fewest characters of JSON that a schema allows; an unknown type counts as ``0``."""
    if not isinstance(schema, dict):
        return 1
    if isinstance(choices := schema.get("enum"), list) and choices:
        return min(len(json.dumps(choice)) for choice in choices)
    match schema.get("type"):
        case "object":
            properties = schema.get("properties") or {}
            required = schema.get("required") or []
            return _joined(len(json.dumps(name)) + 2 + shortest_answer(properties.get(name)) for name in required)
        case "array":
            least = int(schema.get("minItems") or 0)
            return _joined([]) if not least else _joined([least * (shortest_answer(schema.get("items")) + 2) - 2])
        case "string":
            return 2 + int(schema.get("minLength") or 0)
        case _:
            return len(json.dumps(schema.get("const", 0)))


def _joined(lengths: Iterable[int]) -> int:
    held = list(lengths)
    return 2 + sum(held) + 2 * max(0, len(held) - 1)


def _required(template: LintedTemplate) -> Iterator[Finding]:
    output = template.head.output
    if output.format != "json":
        return
    for name in output.row_schema.get("required") or []:
        if name not in output.fields:
            place = template.places.find(*_row_keys(template), "required", name)
            what = f"The JSON schema requires {name!r}, which is not one of its properties"
            remedy = f"{did_you_mean(name, output.fields)}properties are: {', '.join(output.fields)}"
            yield Finding("required-property", what, str(template.path), *place, remedy)


def _reserved(template: LintedTemplate) -> Iterator[Finding]:
    for name in template.columns:
        if name in {*GENERATED, *LINEAGE, *CONVERSATION}:
            what = f"It fills {name!r}, a column that every row has already"
            yield Finding("reserved-column", what, str(template.path), *_column_place(template, name), "rename it")


def _too_short(template: LintedTemplate) -> Iterator[Finding]:
    output, limit = template.head.output, template.head.sampling.max_tokens
    if output.format != "json":
        return
    needed = shortest_answer(output.json_schema) // CHARACTERS_PER_TOKEN
    if needed > limit:
        what = f"The smallest answer that the schema allows takes about {needed} tokens, and max_tokens is {limit}"
        place = template.places.find_value("sampling", "max_tokens")
        yield Finding("short-answer", what, str(template.path), *place, "raise max_tokens", "warning")


def _row_keys(template: LintedTemplate) -> tuple[str, ...]:
    output = template.head.output
    items = ("items",) if output.row_schema is not output.json_schema else ()
    return ("output", "json_schema", *items)


def _column_place(template: LintedTemplate, column: str) -> Place:
    if column in template.head.variables and column not in template.head.output.fields:
        return template.places.find("variables", column)
    if template.head.output.format != "json":
        return template.places.find_value("output", "field")
    return template.places.find(*_row_keys(template), "properties", column)
