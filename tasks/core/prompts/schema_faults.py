"""Faults of an output's JSON Schema: invalid schemas, dangling references, and patterns without a time limit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from tasks.core.patterns import check_pattern

REFERENCES = ("$ref", "$dynamicRef")
ALL_OF_THESE, THIS = ("allOf", "anyOf", "oneOf"), ("not", "if", "then", "else")
"""Keywords whose schemas apply to the same value as the schema around them."""

Keys = tuple[str | int, ...]
Schema = dict[str, Any]


def schema_faults(schema: Schema) -> Iterator[tuple[Keys, str]]:
    """The reasons why a schema (draft 2020-12) cannot validate answers, each with the keys that lead to it.

    A reference must lead to a schema in the same text, and not back to itself for the same value.

    Raises SchemaError: it is not a valid JSON Schema.
    """
    Draft202012Validator.check_schema(schema)
    places = dict(_places(schema))
    targets: dict[int, list[Any]] = {}
    references: list[tuple[Schema, str]] = []
    waiting: list[tuple[Any, Any]] = [(schema, Registry().resolver_with_root(DRAFT202012.create_resource(schema)))]
    seen: set[int] = set()
    while waiting:
        node, resolver = waiting.pop()
        if not isinstance(node, dict) or id(node) in seen:
            continue
        seen.add(id(node))
        keys = places[id(node)]
        yield from ((keys + more, what) for more, what in _pattern_faults(node))
        subresources = DRAFT202012.create_resource(node).subresources()
        waiting += ((sub.contents, resolver.in_subresource(sub)) for sub in subresources)
        for keyword in REFERENCES:
            if keyword not in node:
                continue
            found = _target(node[keyword], resolver)
            if found is None:
                yield (*keys, keyword), f"{node[keyword]!r} does not lead to a schema in this text"
                continue
            waiting.append((found.contents, found.resolver))
            targets.setdefault(id(node), []).append(found.contents)
            references.append((node, keyword))
    for node, keyword in references:
        if _returns(node, targets):
            yield (*places[id(node)], keyword), f"{node[keyword]!r} leads back to itself without end"


def _places(node: Any, keys: Keys = ()) -> Iterator[tuple[int, Keys]]:
    if isinstance(node, dict):
        yield id(node), keys
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield from _places(value, (*keys, key))


def _target(reference: str, resolver: Any) -> Any:
    try:
        found = resolver.lookup(reference)
        Draft202012Validator.check_schema(found.contents)
    except (Unresolvable, SchemaError, LookupError, TypeError, ValueError):
        return None
    return found


def _pattern_faults(node: Mapping[str, Any]) -> Iterator[tuple[Keys, str]]:
    if "patternProperties" in node:  # jsonschema tries them without a time limit
        yield ("patternProperties",), "give properties by their names: patterns are not supported"
    if "pattern" in node:
        try:
            check_pattern(node["pattern"])
        except ValueError as error:
            yield ("pattern",), f"{node['pattern']!r} is not a valid regular expression: {error}"


def _returns(start: Schema, targets: Mapping[int, list[Any]]) -> bool:
    seen: set[int] = set()
    waiting = _applied(start, targets)
    while waiting:
        node = waiting.pop()
        if node is start:
            return True
        if id(node) not in seen:
            seen.add(id(node))
            waiting += _applied(node, targets)
    return False


def _applied(node: Any, targets: Mapping[int, list[Any]]) -> list[Any]:
    if not isinstance(node, dict):
        return []
    applied = [node[keyword] for keyword in THIS if keyword in node]
    for keyword in ALL_OF_THESE:
        applied += node.get(keyword, [])
    return [*applied, *node.get("dependentSchemas", {}).values(), *targets.get(id(node), [])]
