"""Find values that YAML does not read as the text that their author meant: ``3.10``, ``007``, ``yes``, dates, ``~``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import yaml
from pydantic_core import ErrorDetails

from tasks.core.yaml_tree import Place, child_of, place_of, read_as

TEXT = "tag:yaml.org,2002:str"
KEY = "[key]"
"""The end of Pydantic's path to a key of a mapping."""
Unquoted = dict[str, list[yaml.ScalarNode]]
"""The scalars that are not text, by the dotted path of the list, mapping or key that holds them."""


def unquoted(root: yaml.Node | None, problems: Iterable[ErrorDetails]) -> tuple[Unquoted, list[ErrorDetails]]:
    """The scalars that a Pydantic model refused because they are not text, and the other problems."""
    found: Unquoted = {}
    others: list[ErrorDetails] = []
    for problem in problems:
        name, nodes = _beside(root, problem["loc"]) if problem["type"] == "string_type" else ("", [])
        if nodes:
            found[name] = nodes
        else:
            others.append(problem)
    return found, others


def not_texts(nodes: Iterable[yaml.Node]) -> list[yaml.ScalarNode]:
    return [node for node in nodes if isinstance(node, yaml.ScalarNode) and node.tag != TEXT]


def quote_fault(found: Mapping[str, Sequence[yaml.ScalarNode]], first_line: int = 1) -> tuple[str, Place, str]:
    """What is wrong with at least one scalar, the place of the first, and the remedy.

    ``first_line``: of the YAML in its file.
    """
    nodes = sorted((node for group in found.values() for node in group), key=place_of)
    line, column = place_of(nodes[0])
    groups = (
        f"{name} in line {first_line - 1 + place_of(group[0])[0]}: {', '.join(map(_shown, group))}"
        for name, group in found.items()
    )
    quoted = dict.fromkeys(f'"{node.value}"' for node in nodes)
    what = f"YAML reads these as text only in quotes: {'; '.join(groups)}"
    return what, (first_line - 1 + line, column), f"quote it: {', '.join(quoted)}"


def _shown(node: yaml.ScalarNode) -> str:
    value = read_as(node)
    return node.value if value == node.value else f"{node.value or 'nothing'} (read as {value})"


def _beside(root: yaml.Node | None, path: Sequence[int | str]) -> tuple[str, list[yaml.ScalarNode]]:
    """The scalar at a Pydantic path, with all others of its list, or of the keys of its mapping, that are not text."""
    is_key = path[-1:] == (KEY,)
    names: list[str] = []
    node, holder = root, root
    for number, part in enumerate(path[:-2] if is_key else path, 1):
        found = child_of(node, part)
        if found is None or (isinstance(found, yaml.ScalarNode) and number < len(path)):
            continue  # a part that Pydantic adds: the member of a union
        node, holder = found, node
        names.append(str(part))
    if is_key:
        among = [key for key, _ in node.value] if isinstance(node, yaml.MappingNode) else getattr(node, "value", [])
    elif isinstance(holder, yaml.SequenceNode):
        among = holder.value
        names.pop()
    else:
        among = [node]
    return ".".join(names), not_texts(among)
