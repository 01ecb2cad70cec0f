"""Places in a YAML file, the faults that YAML's own reader accepts, and those that it finds, each with a remedy."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import yaml

Place = tuple[int, int]
"""A line and a column of a file, both from 1."""
SURROGATE = re.compile("[\ud800-\udfff]")
INDENT = "indent the line as the keys beside it, with spaces, and write a space after each colon"
QUOTE = "put the whole text in quotes"
REMEDIES = {
    r"'\\t'": "use spaces: YAML does not allow a tab there",
    "end of stream": "close the quote that begins here",
    "unknown escape": "use single quotes, in which a backslash is a plain character",
    "find expected ':'": "write the line as 'key: value', with a space after the colon",
    "special characters": "remove the control character",
    "another document": "remove the line '---': the file is one document",
    "but found '<scalar>'": f"{QUOTE}; write a quote inside it twice, or use the other kind of quotes",
    "<block|<document start>|mapping values": INDENT,
    r"expected '[,\]}]|node content": f"close the bracket; if it belongs to a text, {QUOTE}",
    "recursion": "make it simpler: it is nested too deeply",
}
"""By a pattern of PyYAML's message; for others, such as that of a text that begins with @, % or *, it is QUOTE."""


class YamlFault(NamedTuple):
    """Why a text is not valid YAML, where, and what to do."""

    what: str
    place: Place
    remedy: str


def yaml_fault(text: str, error: Exception) -> YamlFault:
    """Explain an error of PyYAML.

    ``error``: what reading ``text`` raised; a ValueError is of a value such as the date 2026-02-31.
    """
    problem = str(getattr(error, "problem", None) or getattr(error, "reason", None) or error)
    remedy = next((remedy for pattern, remedy in REMEDIES.items() if re.search(pattern, problem)), QUOTE)
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return YamlFault(problem, _place_without_mark(text, error), remedy)
    if "end of stream" in problem or "find expected ':'" in problem:  # where the quote or the key began
        mark = getattr(error, "context_mark", None) or mark
    elif "<scalar>" in problem and (opened := _quote_over_lines(text, mark.line)):
        return YamlFault(f"the quote is closed only in line {mark.line + 1}", opened, "close the quote in its line")
    elif "mapping values" in problem and ": " in text.splitlines()[mark.line][: mark.column]:
        problem, remedy = "a colon with a space after it, inside a text", QUOTE
    return YamlFault(problem, (mark.line + 1, mark.column + 1), remedy)


def _quote_over_lines(text: str, last: int) -> Place | None:
    """Where a quoted text begins that ends in another line, the line ``last``, counted from 0."""
    with contextlib.suppress(yaml.YAMLError):
        for token in yaml.scan(text, yaml.SafeLoader):
            if (
                isinstance(token, yaml.ScalarToken)
                and token.style
                and token.start_mark.line < token.end_mark.line == last
            ):
                return token.start_mark.line + 1, token.start_mark.column + 1
    return None


def _place_without_mark(text: str, error: Exception) -> Place:
    if isinstance(error, yaml.reader.ReaderError):
        before = text[: error.position]
        return before.count("\n") + 1, len(before) - before.rfind("\n")
    loader = yaml.SafeLoader("")
    with contextlib.suppress(yaml.YAMLError, RecursionError):
        for node in _nodes(yaml.compose(text, yaml.SafeLoader)):
            try:
                if isinstance(node, yaml.ScalarNode):
                    loader.construct_object(node)
            except ValueError:
                return place_of(node)
    return 1, 1


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
