"""Faults that YAML's own reader accepts."""

from __future__ import annotations

import re
from collections.abc import Iterator

import yaml

SURROGATE = re.compile("[\ud800-\udfff]")


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
    """The keys and values that UTF-8 cannot hold: an escape such as ``\\ud800`` spells half of a surrogate pair."""
    for node in _nodes(root):
        if isinstance(node, yaml.ScalarNode) and SURROGATE.search(node.value):
            yield node


def _mappings(root: yaml.Node | None) -> Iterator[yaml.MappingNode]:
    return (node for node in _nodes(root) if isinstance(node, yaml.MappingNode))


def _nodes(root: yaml.Node | None) -> Iterator[yaml.Node]:
    waiting = [root] if root is not None else []
    while waiting:
        node = waiting.pop()
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
        elif isinstance(node, yaml.MappingNode):
            waiting += [part for pair in node.value for part in pair]
        yield node
