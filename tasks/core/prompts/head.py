"""Reading the head of a prompt file: YAML with the place of every key, then the checks of what it says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from pydantic import ValidationError

from tasks.core.config import Section
from tasks.core.findings import Finding
from tasks.core.patterns import check_pattern
from tasks.core.prompts.front_matter import (
    JUDGING,
    DocumentField,
    FewShot,
    FrontMatter,
    Judge,
    Output,
    Sampler,
    Sampling,
)
from tasks.core.prompts.schema_faults import schema_faults
from tasks.core.suggestions import did_you_mean
from tasks.core.yaml_tree import broken_texts, doubled_keys, odd_keys

Place = tuple[int, int]
CODES = {"extra_forbidden": "unknown-key", "missing": "missing-key"}
SOURCES = {"document", "sampler", "few_shot"}
SECTIONS: dict[str, type[Section]] = {
    "document": DocumentField,
    "sampler": Sampler,
    "few_shot": FewShot,
    "output": Output,
    "judge": Judge,
    "sampling": Sampling,
}
"""By their key in the head, or by where a variable comes from."""
COLUMN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class HeadPlaces:
    """Where the keys of a head stand in their file.

    Attributes:
        root: the YAML tree, or None where the head is no YAML.
        first_line: the file's line that the tree's first line is.
    """

    root: yaml.Node | None = None
    first_line: int = 2

    def find(self, *keys: str | int) -> Place:
        """Line and column (from 1) of a key, or of the deepest part of its path that exists.

        A number is an index of a list; a name finds the list's item of that text, too: ``variables, topic`` is found
        in ``variables: [topic]`` and in ``variables: {topic: ...}``.
        """
        return self._walk(keys)[0]

    def find_value(self, *keys: str | int) -> Place:
        """The place of a key's value where that is text or a number, else that of the key."""
        place, value = self._walk(keys)
        return self.place_of(value) if isinstance(value, yaml.ScalarNode) else place

    def _walk(self, keys: tuple[str | int, ...]) -> tuple[Place, yaml.Node | None]:
        node = self.root
        place = self.place_of(node) if node is not None else (self.first_line, 1)
        for key in keys:
            found = _child(node, key)
            if found is not None:
                place, node = self.place_of(found[0]), found[1]
        return place, node

    def place_of(self, node: yaml.Node) -> Place:
        """Line and column of a node of the tree."""
        return self.first_line + node.start_mark.line, node.start_mark.column + 1


def _child(node: yaml.Node | None, key: str | int) -> tuple[yaml.Node, yaml.Node] | None:
    """The node that stands for a key, and its value's."""
    if isinstance(node, yaml.MappingNode):
        return next(((name, value) for name, value in node.value if name.value == str(key)), None)
    if isinstance(node, yaml.SequenceNode):
        if isinstance(key, int) and key < len(node.value):
            return node.value[key], node.value[key]
        return next(((item, item) for item in node.value if item.value == key), None)
    return None


def read_head(text: str, path: str, first_line: int = 2) -> tuple[FrontMatter | None, HeadPlaces, list[Finding]]:
    """The head, where its keys stand, and what is wrong with it; no head where it cannot be used.

    Args:
        text: the YAML between the two lines ``---``.
        path: of the file, for the findings.
        first_line: the file's line that the text begins at.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        places = HeadPlaces(root, first_line)
        if findings := list(_check_tree(text, root, places, path)):
            return None, places, findings
        data = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date such as 2026-02-31
        return None, HeadPlaces(None, first_line), [_no_yaml(error, path, first_line)]
    try:
        head = FrontMatter.model_validate(data)
    except ValidationError as error:
        return None, places, _invalid(error, places, path)
    findings = [*_check_schema(head, places, path), *_check_judge(head, places, path)]
    return head, places, findings


def _no_yaml(error: Exception, path: str, first_line: int) -> Finding:
    mark = getattr(error, "problem_mark", None)
    what = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error) or type(error).__name__
    line, column = (first_line + mark.line, mark.column + 1) if mark else (first_line, 1)
    return Finding(
        "yaml", f"The front matter is no YAML: {what}", path, line, column, "put texts with : # { [ or @ in quotes"
    )


def _check_tree(text: str, root: yaml.Node | None, places: HeadPlaces, path: str) -> Iterator[Finding]:
    """Keys that stand twice, of which YAML would take the last, and aliases, by which a few lines can grow huge."""
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent) and (mark := event.start_mark):
            line, column = places.first_line + mark.line, mark.column + 1
            yield Finding("yaml-alias", f"The alias *{event.anchor}", path, line, column, "write the value out")
            return
    for key in odd_keys(root):
        yield Finding("yaml", "A key that is no text", path, *places.place_of(key))
    for text_node in broken_texts(root):
        what, remedy = "A text holds half of a surrogate pair, which is no character", "write the character itself"
        yield Finding("yaml", what, path, *places.place_of(text_node), remedy)
    for key in doubled_keys(root):
        what = f"The key {key.value!r} stands twice"
        yield Finding("duplicate-key", what, path, *places.place_of(key), "remove one of the two")


def _invalid(error: ValidationError, places: HeadPlaces, path: str) -> list[Finding]:
    findings = []
    for problem in error.errors():
        keys = tuple(
            key
            for number, key in enumerate(problem["loc"])
            if key != "[key]" and not (number == 2 and problem["loc"][0] == "variables" and key in SOURCES)
        )
        code = CODES.get(problem["type"], "invalid-value")
        if problem["type"] == "union_tag_invalid":
            keys = (*keys, "from")
        place = places.find_value(*keys) if code == "invalid-value" else places.find(*keys)
        what = problem["msg"].removeprefix("Value error, ")
        name = ".".join(str(key) for key in keys) or "the whole"
        remedy = _keys_there(problem["loc"]) if code == "unknown-key" else ""
        findings.append(Finding(code, f"Front matter, {name}: {what}", path, *place, remedy))
    return findings


def _keys_there(place: Sequence[str | int]) -> str:
    """The keys that may stand where one is unknown, the nearest of them first."""
    section: type[Section] = SECTIONS.get(str(place[2] if place[0] == "variables" else place[0]), FrontMatter)
    known = [field.alias or name for name, field in section.model_fields.items()]
    return f"{did_you_mean(str(place[-1]), known)}keys here are: {', '.join(known)}"


def _check_schema(head: FrontMatter, places: HeadPlaces, path: str) -> Iterator[Finding]:
    output, schema = head.output, head.output.json_schema
    place = places.find("output", "json_schema")
    if output.format != "json":
        if schema is not None:
            yield Finding(
                "json-schema",
                f"output.json_schema has no meaning in the format {output.format!r}",
                path,
                *place,
                "set output.format: json, or remove json_schema",
            )
        return
    remedy = "json_schema: {type: object, properties: {...}, required: [...]}, or an array of such objects"
    try:
        Draft202012Validator.check_schema(schema or {})
        json.dumps(schema, allow_nan=False)
        faults = list(schema_faults(schema or {}))
    except SchemaError as error:
        keys = ("output", "json_schema", *error.absolute_path)
        what = f"output.json_schema is no JSON Schema: {error.message}"
        yield Finding("json-schema", what, path, *places.find_value(*keys))
        return
    except (TypeError, ValueError) as error:
        yield Finding("json-schema", f"output.json_schema is no JSON: {error}", path, *place, "put dates in quotes")
        return
    except RecursionError:
        yield Finding("json-schema", "output.json_schema is nested too deeply", path, *place)
        return
    for keys, what in faults:
        at = places.find_value("output", "json_schema", *keys)
        yield Finding("json-schema", f"output.json_schema: {what}", path, *at)
    if (schema or {}).get("type") not in ("object", "array") or output.row_schema.get("type") != "object":
        what = "output.json_schema is not that of an object, nor of an array of objects"
        yield Finding("json-schema", what, path, *place, remedy)
    elif not output.fields:
        yield Finding("json-schema", "A json output needs output.json_schema with properties", path, *place, remedy)
    for name in output.fields:
        if not COLUMN.fullmatch(name):
            keys = ("output", "json_schema", *(["items"] if output.row_schema is not schema else []))
            what = f"The property {name!r} cannot be the name of a column"
            remedy = "use letters, digits, '_', '-' and '.'"
            yield Finding("json-schema", what, path, *places.find(*keys, "properties", name), remedy)


def _check_judge(head: FrontMatter, places: HeadPlaces, path: str) -> Iterator[Finding]:
    """A judge is asked once about each row, and says the same every time."""
    judge = head.judge
    if judge is None:
        return
    if judge.accept is not None:
        try:
            check_pattern(judge.accept)
        except ValueError as error:
            what = f"judge.accept is no regular expression: {error}"
            yield Finding("judge", what, path, *places.find_value("judge", "accept"))
    elif head.output.format != "json" or judge.score not in head.output.row_schema.get("properties", {}):
        what = f"A judge with a scale needs a json output with the property {judge.score!r}"
        remedy = "json_schema: {type: object, properties: {reasons: {type: string}, score: {type: integer}}, ...}"
        yield Finding("judge", what, path, *places.find("judge", "scale"), remedy)
    elif (head.output.json_schema or {}).get("type") == "array":
        what = "A judge answers with one object, not with an array"
        yield Finding("judge", what, path, *places.find("output", "json_schema"))
    if head.sampling.temperature != 0:
        what, place = "A judge has sampling.temperature 0", places.find_value("sampling", "temperature")
        yield Finding("judge", what, path, *place)
    if head.rows_per_document != 1:
        what = "A judge is asked once for each row: it has no rows_per_document"
        yield Finding("judge", what, path, *places.find("rows_per_document"))
    for name, variable in head.variables.items():
        if not isinstance(variable, DocumentField):
            what = f"A judge's variables come from the row: {name!r} is drawn"
            yield Finding("judge", what, path, *places.find("variables", name))
        elif name in JUDGING:
            what = f"A judge's template gets {name!r} from its judge section"
            yield Finding("judge", what, path, *places.find("variables", name), "do not declare it")
