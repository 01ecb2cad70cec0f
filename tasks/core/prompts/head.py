"""Read the head of a prompt file: YAML with the place of every key, then checks of its values."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from tasks.core.config import Section
from tasks.core.findings import Finding
from tasks.core.patterns import check_pattern
from tasks.core.prompts.front_matter import JUDGING, DocumentField, FrontMatter, Judge, Output, Sampling, Variable
from tasks.core.suggestions import did_you_mean
from tasks.core.yaml_texts import Unquoted, not_texts, quote_fault, unquoted
from tasks.core.yaml_tree import Place, broken_texts, child_of, doubled_keys, find_node, odd_keys, place_of, yaml_fault

CODES = {"extra_forbidden": "unknown-key", "missing": "missing-key"}
VARIABLES: dict[str, type[Section]] = {
    kind.model_fields["source"].default: kind for kind in get_args(get_args(Variable)[0])
}
"""The sections of variables, by their source."""
SECTIONS: dict[str, type[Section]] = {**VARIABLES, "output": Output, "judge": Judge, "sampling": Sampling}
COLUMN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class HeadPlaces:
    """The places of a head's keys in their file, from its ``first_line``; no root if it is not valid YAML."""

    root: yaml.Node | None = None
    first_line: int = 2
    path: str = ""

    def find(self, *keys: str | int) -> Place:
        """Line and column of a key, or of the deepest part of its path that exists: see ``find_node``."""
        return self._in_file(find_node(self.root, keys)[0])

    def find_value(self, *keys: str | int) -> Place:
        """The place of a key's value if it is text or a number, else that of the key."""
        place, value = find_node(self.root, keys)
        return self.place_of(value) if isinstance(value, yaml.ScalarNode) else self._in_file(place)

    def place_of(self, node: yaml.Node) -> Place:
        return self._in_file(place_of(node))

    def place_at(self, mark: Any) -> Place:
        """Line and column of a ``yaml.Mark`` (of either reader); the first line for None."""
        return (self.first_line + mark.line, mark.column + 1) if mark else (self.first_line, 1)

    def _in_file(self, place: Place) -> Place:
        return self.first_line - 1 + place[0], place[1]

    def finding(self, code: str, what: str, place: Place, remedy: str = "") -> Finding:
        return Finding(code, what, self.path, *place, remedy)


def read_head(text: str, path: str, first_line: int = 2) -> tuple[FrontMatter | None, HeadPlaces, list[Finding]]:
    """The head (None if it cannot be used), the places of its keys, and its faults; see :class:`HeadPlaces`."""
    try:
        loader = yaml.SafeLoader(text)
        places = HeadPlaces(loader.get_single_node(), first_line, path)
        if findings := list(_check_tree(text, places)):
            return None, places, findings
        data = loader.construct_document(places.root) if places.root else None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date such as 2026-02-31
        places = HeadPlaces(None, first_line, path)
        what, (line, column), remedy = yaml_fault(text, error)
        place = first_line - 1 + line, column
        return None, places, [places.finding("yaml", f"The front matter is not valid YAML: {what}", place, remedy)]
    head, problems = None, []
    try:
        head = FrontMatter.model_validate(data)
    except ValidationError as error:
        problems = error.errors()
    not_text, others = unquoted(places.root, problems)
    not_text |= _unquoted_in_schema(child_of(child_of(places.root, "output"), "json_schema"))
    findings = [_invalid(problem, places) for problem in others]
    if not_text:
        findings.insert(0, places.finding("not-text", *quote_fault(not_text, first_line)))
    if head is None or findings:
        return None, places, findings
    return head, places, [*_check_schema(head.output, places), *_check_judge(head, places)]


def _check_tree(text: str, places: HeadPlaces) -> Iterator[Finding]:
    """Refuse aliases, by which a few lines can grow huge, and keys and texts that YAML's reader accepts."""
    for event in yaml.parse(text, Loader=yaml.SafeLoader) if "*" in text else ():
        if isinstance(event, yaml.AliasEvent):
            yield places.finding(
                "yaml-alias", f"The alias *{event.anchor}", places.place_at(event.start_mark), "write the value out"
            )
            return
    for key in odd_keys(places.root):
        yield places.finding("yaml", "A key that is not text", places.place_of(key))
    for node in broken_texts(places.root):
        what, remedy = "A text holds half of a surrogate pair, which is not a character", "write the character itself"
        yield places.finding("yaml", what, places.place_of(node), remedy)
    for key in doubled_keys(places.root):
        what = f"The key {key.value!r} appears twice"
        yield places.finding("duplicate-key", what, places.place_of(key), "remove one of the two")


def _invalid(problem: ErrorDetails, places: HeadPlaces) -> Finding:
    where = problem["loc"]
    # Pydantic's path also names a variable's source, and "[key]" for a key that is at fault.
    of_variable = where[:1] == ("variables",)
    keys = [
        key
        for depth, key in enumerate(where)
        if key != "[key]" and not (depth == 2 and of_variable and key in VARIABLES)
    ]
    code = CODES.get(problem["type"], "invalid-value")
    if problem["type"] == "union_tag_invalid":
        keys.append("from")
    place = places.find_value(*keys) if code == "invalid-value" else places.find(*keys)
    name = ".".join(map(str, keys)) or "as a whole"
    remedy = ""
    if code == "unknown-key":
        section: type[Section] = SECTIONS.get(str(where[2] if of_variable else where[0]), FrontMatter)
        known = [field.alias or name for name, field in section.model_fields.items()]
        remedy = f"{did_you_mean(str(where[-1]), known)}keys here are: {', '.join(known)}"
    return places.finding(code, f"Front matter, {name}: {problem['msg'].removeprefix('Value error, ')}", place, remedy)


def _unquoted_in_schema(node: yaml.Node | None, name: str = "output.json_schema") -> Unquoted:
    """Names of properties, and choices of texts, that are not text; without a type, those that are not JSON either."""
    if isinstance(node, yaml.SequenceNode):
        inner = [_unquoted_in_schema(item, name) for item in node.value]
        return {at: nodes for found in inner for at, nodes in found.items()}
    if not isinstance(node, yaml.MappingNode):
        return {}
    parts = {key.value: value for key, value in node.value}
    kind = parts["type"].value if isinstance(parts.get("type"), yaml.ScalarNode) else None
    found = {name: not_texts(key for key, _ in node.value)}
    for part, value in parts.items():
        is_list = isinstance(value, yaml.SequenceNode)
        if part == "const" or (is_list and part in ("enum", "required")):
            choices = not_texts(value.value if is_list else [value])
            is_text = part == "required" or kind == "string"
            found[f"{name}.{part}"] = [one for one in choices if is_text or (kind is None and not _is_json(one))]
        else:
            found |= _unquoted_in_schema(value, f"{name}.{part}")
    return {at: nodes for at, nodes in found.items() if nodes}


def _is_json(node: yaml.ScalarNode) -> bool:
    """Whether a scalar is written as in JSON: ``true`` and ``3.1``, not ``yes``, ``3.10`` or a date."""
    return json.dumps(yaml.safe_load(node.value), default=str) == str(node.value)


def _check_schema(output: Output, places: HeadPlaces) -> Iterator[Finding]:
    schema = output.json_schema
    place = places.find("output", "json_schema")

    def finding(what: str, place: Place = place, remedy: str = "") -> Finding:
        return places.finding("json-schema", what, place, remedy)

    if output.format != "json":
        if schema is not None:
            what = f"output.json_schema has no meaning in the format {output.format!r}"
            yield finding(what, remedy="set output.format: json, or remove json_schema")
        return
    from jsonschema.exceptions import SchemaError

    from tasks.core.prompts.schema_faults import schema_faults

    try:
        json.dumps(schema, allow_nan=False)
        faults = list(schema_faults(schema or {}))
    except SchemaError as error:
        what = f"output.json_schema is not a valid JSON Schema: {error.message}"
        yield finding(what, places.find_value("output", "json_schema", *error.absolute_path))
        return
    except (TypeError, ValueError) as error:
        yield finding(f"output.json_schema is not valid JSON: {error}", remedy="put dates in quotes")
        return
    except RecursionError:
        yield finding("output.json_schema is nested too deeply")
        return
    for keys, what in faults:
        yield finding(f"output.json_schema: {what}", places.find_value("output", "json_schema", *keys))
    remedy = "json_schema: {type: object, properties: {...}, required: [...]}, or an array of such objects"
    if (schema or {}).get("type") not in ("object", "array") or output.row_schema.get("type") != "object":
        yield finding("output.json_schema describes neither an object nor an array of objects", remedy=remedy)
    elif not output.fields:
        yield finding("A json output needs output.json_schema with properties", remedy=remedy)
    for name in output.fields:
        if not COLUMN.fullmatch(name):
            items = ["items"] if output.row_schema is not schema else []
            at = places.find("output", "json_schema", *items, "properties", name)
            yield finding(
                f"The property {name!r} cannot be a column's name", at, "use letters, digits, '_', '-' and '.'"
            )


def _check_judge(head: FrontMatter, places: HeadPlaces) -> Iterator[Finding]:
    """A judge is asked once about each row, and answers the same every time."""
    judge = head.judge
    if judge is None:
        return

    def finding(what: str, place: Place, remedy: str = "") -> Finding:
        return places.finding("judge", what, place, remedy)

    if judge.accept is not None:
        try:
            check_pattern(judge.accept)
        except ValueError as error:
            what = f"judge.accept is not a valid regular expression: {error}"
            yield finding(what, places.find_value("judge", "accept"))
    elif head.output.format != "json" or judge.score not in head.output.row_schema.get("properties", {}):
        what = f"A judge with a scale needs a json output with the property {judge.score!r}"
        remedy = "json_schema: {type: object, properties: {reasons: {type: string}, score: {type: integer}}, ...}"
        yield finding(what, places.find("judge", "scale"), remedy)
    elif (head.output.json_schema or {}).get("type") == "array":
        yield finding("A judge answers with one object, not with an array", places.find("output", "json_schema"))
    if head.sampling.temperature != 0:
        yield finding("A judge needs sampling.temperature 0", places.find_value("sampling", "temperature"))
    if head.rows_per_document != 1:
        what = "A judge is asked once for each row, so it takes no rows_per_document"
        yield finding(what, places.find("rows_per_document"))
    for name, variable in head.variables.items():
        place = places.find("variables", name)
        if not isinstance(variable, DocumentField):
            yield finding(f"A judge's variables come from the row, but {name!r} is drawn", place)
        elif name in JUDGING:
            yield finding(f"A judge's template gets {name!r} from its judge section", place, "do not declare it")
