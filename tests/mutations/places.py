"""Find the place of a mutation in a source tree, and change it there.

A place is a function's qualified name and the normalised source (``ast.unparse``) of an expression or a simple
statement in it. Neither a moved module nor a changed comment or docstring makes it another place.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

ROOMS = ("flows", "retune", "tasks")
"""The folders whose code is mutated."""
MODULE = "<module>"
"""The function of code that is in no function."""
DISTINCTIVE = 24
"""A source text of this many characters is searched in other functions too."""
LEAST_LIKENESS = 0.5


@dataclass(frozen=True)
class Change:
    """An expression or statement, and its replacement; ``occurrence`` counts equal ones in the function from 0."""

    module: str
    function: str
    before: str
    after: str
    occurrence: int = 0


@dataclass(frozen=True)
class Place:
    """A node of a file's tree: an expression or a simple statement."""

    file: Path
    function: str
    node: ast.expr | ast.stmt

    @cached_property
    def source(self) -> str:
        return ast.unparse(self.node)


def modules_of(root: Path) -> list[Path]:
    """The modules that may be mutated, sorted."""
    return sorted(path for room in ROOMS for path in (root / room).rglob("*.py"))


@cache
def places_in(file: Path) -> tuple[Place, ...]:
    """All places of a module in the order of its source."""
    found = [Place(file, function, node) for function, node in _nodes(ast.parse(file.read_text("utf-8")), ())]
    return tuple(sorted(found, key=lambda place: (place.node.lineno, place.node.col_offset)))


def _nodes(node: ast.AST, names: tuple[str, ...]) -> Iterator[tuple[str, ast.expr | ast.stmt]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield from _nodes(child, (*names, child.name))
            continue
        if isinstance(child, ast.expr | ast.Expr | ast.Assign | ast.AnnAssign | ast.Return):
            yield ".".join(names) or MODULE, child
        if not isinstance(child, ast.JoinedStr):  # Python 3.11 gives wrong positions inside of f-strings
            yield from _nodes(child, names)


def find_place(root: Path, change: Change) -> Place | None:
    """The place of a change: in a function of this name, else the same source elsewhere if it is distinctive.

    Of several files, the one with the module's path or file name counts. None: there is no such place, or several.
    """
    files = modules_of(root)
    for in_function in (True, False) if len(change.before) >= DISTINCTIVE else (True,):
        found = {file: equal for file in files if (equal := _equal(file, change, in_function))}
        named_alike = [file for file in found if file.name == Path(change.module).name]
        for choice in ([root / change.module], named_alike, list(found)):
            equal = found.get(choice[0], []) if len(choice) == 1 else []
            if len(equal) == 1 or change.occurrence < len(equal):
                return equal[min(change.occurrence, len(equal) - 1)]
    return None


def similar_places(root: Path, change: Change, count: int = 3) -> list[Place]:
    """The places most like a lost one, among functions of its name and modules of its file name."""
    name, function = Path(change.module).name, change.function.rpartition(".")[2]
    kind = ast.Expr if change.after == "pass" else type(_parsed(change.before))
    near = [
        place
        for file in modules_of(root)
        for place in places_in(file)
        if isinstance(place.node, kind) and (file.name == name or place.function.rpartition(".")[2] == function)
    ]
    likeness = difflib.SequenceMatcher(b=change.before)

    def ratio(place: Place) -> float:
        likeness.set_seq1(place.source)
        return likeness.ratio() if likeness.quick_ratio() > LEAST_LIKENESS else 0.0

    return sorted(near, key=ratio, reverse=True)[:count]


def _equal(file: Path, change: Change, in_function: bool) -> list[Place]:
    kind = ast.Expr if change.after == "pass" else type(_parsed(change.before))
    return [
        place
        for place in places_in(file)
        if isinstance(place.node, kind)
        and (place.function == change.function or not in_function)
        and place.source == change.before
    ]


@cache
def _parsed(source: str) -> ast.stmt | ast.expr:
    statement = ast.parse(source).body[0]
    return statement.value if isinstance(statement, ast.Expr) else statement


def changed(file: Path, edits: list[tuple[Place, str, str]]) -> str:
    """A file's text with changes behind switches: places, each with the condition and the source that then holds.

    Raises:
        ValueError: two places overlap.
    """
    text = file.read_bytes()
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    last = len(text)
    for place, condition, after in sorted(
        edits, key=lambda edit: starts[edit[0].node.lineno - 1] + edit[0].node.col_offset, reverse=True
    ):
        node = place.node
        assert node.end_lineno is not None and node.end_col_offset is not None
        start, end = starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset
        if end > last:
            raise ValueError(f"two mutations overlap in {file}, line {node.lineno}")
        text = text[:start] + _switched(node, condition, after).encode() + text[end:]
        last = start
    return text.decode()


def _switched(node: ast.expr | ast.stmt, condition: str, after: str) -> str:
    if isinstance(node, ast.Expr):
        return f"(None if {condition} else {ast.unparse(node.value)})"
    if isinstance(node, ast.expr):
        return f"(({after}) if {condition} else ({ast.unparse(node)}))"
    assert isinstance(node, ast.Assign | ast.AnnAssign | ast.Return) and node.value is not None
    changed = ast.parse(after.removeprefix("return ")).body[0]
    assert isinstance(changed, ast.Expr | ast.Assign | ast.AnnAssign) and changed.value is not None
    head = ast.unparse(node).removesuffix(ast.unparse(node.value))
    return f"{head}(({ast.unparse(changed.value)}) if {condition} else ({ast.unparse(node.value)}))"
