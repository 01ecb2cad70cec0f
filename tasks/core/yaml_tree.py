"""Places in a YAML file, and the faults that YAML's own reader accepts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import yaml

Place = tuple[int, int]
"""A line and a column of a file, both from 1."""
SURROGATE = re.compile("[\ud800-\udfff]")


def place_of(node: yaml.Node) -> Place:
    """Where a node begins."""
    return node.start_mark.line + 1, node.start_mark.column + 1


def find_node(root: yaml.Node | None, path: Sequence[int | str]) -> tuple[Place, yaml.Node | None]:
    """The place of the deepest part of a path that exists, and the node there (for a key: its value).

    A number is an index of a list. A text is a key of a mapping or an item of a list: ``variables, topic`` is found in
    ``variables: [topic]`` and in ``variables: {topic: ...}``.
    """
    place, node = place_of(root) if root is not None else (1, 1), root
    for part in path:
        found = _child(node, part)
        if found is None:
            break
        place, node = place_of(found[0]), found[1]
    return place, node


def _child(node: yaml.Node | None, part: int | str) -> tuple[yaml.Node, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        return next(((key, value) for key, value in node.value if str(part) in (key.value, read_as(key))), None)
    if isinstance(node, yaml.SequenceNode):
        if isinstance(part, int):
            return (node.value[part], node.value[part]) if part < len(node.value) else None
        return next(((item, item) for item in node.value if item.value == part), None)
    return None


def child_of(node: yaml.Node | None, part: int | str) -> yaml.Node | None:
    """The value of a key, or an item of a list, as in :func:`find_node`; None if it is not there."""
    found = _child(node, part)
    return found[1] if found else None


def read_as(node: yaml.Node) -> str:
    """What YAML reads a scalar as, such as ``True`` for ``yes``; empty for lists and mappings."""
    return str(yaml.SafeLoader("").construct_object(node)) if isinstance(node, yaml.ScalarNode) else ""


def doubled_keys(root: yaml.Node | None) -> Iterator[yaml.ScalarNode]:
    """The keys that appear twice in their mapping; YAML would silently take the last."""
    for mapping in _mappings(root):
        seen: set[str] = set()
        for key, _ in mapping.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    yield key
                seen.add(key.value)


def odd_keys(root: yaml.Node | None) -> Iterator[yaml.Node]:
    """The keys that are lists or mappings."""
    for mapping in _mappings(root):
        yield from (key for key, _ in mapping.value if not isinstance(key, yaml.ScalarNode))


def broken_texts(root: yaml.Node | None) -> Iterator[yaml.ScalarNode]:
    """The keys and values that UTF-8 cannot encode: an escape such as ``\\ud800`` is half of a surrogate pair."""
    for node in _nodes(root):
        if isinstance(node, yaml.ScalarNode) and SURROGATE.search(node.value):
            yield node


def _mappings(root: yaml.Node | None) -> Iterator[yaml.MappingNode]:
    return (node for node in _nodes(root) if isinstance(node, yaml.MappingNode))


def _nodes(root: yaml.Node | None) -> Iterator[yaml.Node]:
    waiting = [root] if root is not None else []
    seen: set[int] = set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:  # an alias is its anchor's node once more, and may lie within it
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
        elif isinstance(node, yaml.MappingNode):
            waiting += [part for pair in node.value for part in pair]
        yield node
