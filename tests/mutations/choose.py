"""Choose mutations at random, one of a module at most, and write them to ``mutations.json``.

``python -m tests.mutations.choose --count 60 --seed 1 [--also OTHER_TREE]``; with ``--also`` every mutation has its
place in that tree too, such as the tree after a refactoring.
"""

from __future__ import annotations

import argparse
import ast
import copy
import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.mutations.places import MODULE, Change, Place, find_place, modules_of, places_in

DATA = Path(__file__).with_name("mutations.json")
OPERATORS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
BOUNDS = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)
MESSAGES = {
    "say", "_say", "print", "log", "info", "warning", "debug", "exception", "escape", "RetuneError", "Option",
    "add_row", "add_column", "Table", "Text", "add_argument", "Argument", "Field", "Typer", "ConfigDict",
}  # fmt: skip
"""Functions whose arguments are texts for people, or declarations of a command line."""
SYMMETRIC = {
    "isinstance", "issubclass", "getattr", "setattr", "hasattr", "min", "max", "zip", "range", "chain", "TypeVar",
    "cast", "field", "suppress", "Annotated", "Literal", "Path",
}  # fmt: skip
"""Functions whose arguments are not worth swapping: any order does the same, or no order but one runs at all."""


def candidates(file: Path) -> Iterator[tuple[str, Place, str]]:
    """Every mutation of a module: its kind, its place, and the source after it."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    skipped, conditions = set(_skipped(tree)), set(_conditions(tree))
    for place in places_in(file):
        node = place.node
        position = (node.lineno, node.col_offset)
        if position in skipped or place.function.rpartition(".")[2] == "main":
            continue
        mutants = list(_mutants(node))
        if position in conditions and isinstance(node, ast.Name | ast.Call | ast.Attribute | ast.UnaryOp):
            mutants.append(("negated condition", ast.unparse(ast.UnaryOp(ast.Not(), node))))
        for kind, after in mutants:
            if place.function != MODULE or kind == "constant":
                yield kind, place, after


def _conditions(tree: ast.AST) -> Iterator[tuple[int, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.If | ast.While):
            yield node.test.lineno, node.test.col_offset


def _skipped(tree: ast.AST) -> Iterator[tuple[int, int]]:
    """The positions of nodes that only make messages, types or defaults."""
    for node in ast.walk(tree):
        parts: list[ast.AST | None] = []
        if (
            isinstance(node, ast.Raise | ast.JoinedStr | ast.Assert)
            or (isinstance(node, ast.Call) and _name(node.func) in MESSAGES)
            or (isinstance(node, ast.Call) and _name(node.func).endswith(("Error", "Finding", "Violation")))
        ):
            parts = [node]
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            arguments = [*node.args.args, *node.args.kwonlyargs]
            parts = [*node.args.defaults, *node.args.kw_defaults, *node.decorator_list, node.returns]
            parts += [argument.annotation for argument in arguments]
        elif isinstance(node, ast.ClassDef):
            parts = [*node.decorator_list]
        elif isinstance(node, ast.AnnAssign):
            parts = [node.annotation]
        elif isinstance(node, ast.If) and _name(node.test) == "TYPE_CHECKING":
            parts = [node.test]
        for part in parts:
            yield from (
                (child.lineno, child.col_offset)
                for child in (ast.walk(part) if part else ())
                if isinstance(child, ast.expr | ast.stmt)
            )


def _name(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _mutants(node: ast.expr | ast.stmt) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        kind = "bound" if isinstance(node.ops[0], BOUNDS) else "comparison"
        yield kind, _with(node, "ops", [OPERATORS[type(node.ops[0])]()])
    elif (isinstance(node, ast.BinOp) and type(node.op) in OPERATORS and not _is_text(node)) or isinstance(
        node, ast.BoolOp
    ):
        yield "operator", _with(node, "op", OPERATORS[type(node.op)]())
    elif isinstance(node, ast.IfExp) and not (_is_string(node.body) and _is_string(node.orelse)):
        yield "negated condition", _with(node, "test", ast.UnaryOp(ast.Not(), node.test))
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield "dropped call", "pass"
    elif (
        isinstance(node, ast.Call)
        and len(node.args) > 1
        and _name(node.func) not in SYMMETRIC
        and all(isinstance(argument, ast.Name | ast.Attribute | ast.Subscript) for argument in node.args[:2])
    ):
        yield "swapped arguments", _with(node, "args", [node.args[1], node.args[0], *node.args[2:]])
    if isinstance(node, ast.Compare | ast.BinOp | ast.Call | ast.Return | ast.Assign):
        for child in ast.walk(node):
            if isinstance(child, ast.Constant) and isinstance(child.value, bool | int | float):
                yield "constant", _with_constant(node, child)


def _is_string(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _is_text(node: ast.BinOp) -> bool:
    """Whether it joins texts or lists, or the parts of a path."""
    is_path = isinstance(node.op, ast.Div) and _name(node.right).isupper()
    return is_path or any(isinstance(side, ast.List) or _is_string(side) for side in ast.walk(node))


def _with(node: ast.AST, name: str, value: object) -> str:
    new = copy.deepcopy(node)
    setattr(new, name, value)
    return ast.unparse(ast.fix_missing_locations(new))


def _with_constant(node: ast.AST, constant: ast.Constant) -> str:
    before = constant.value
    if isinstance(before, bool):
        constant.value = not before
    elif isinstance(before, int):
        constant.value = before + 1
    else:
        assert isinstance(before, float)
        constant.value = before * 2 or 1.0
    after = ast.unparse(node)
    constant.value = before
    return after


def _is_long_or_version(place: Place) -> bool:
    return len(place.source) > 160 or "\n" in place.source or "VERSION" in place.source


def choose(root: Path, also: Path | None, count: int, seed: int) -> list[dict[str, Any]]:
    """So many mutations, by area in proportion to its modules, each of the kind that was chosen least often."""
    rng = random.Random(seed)
    by_area: dict[str, list[Path]] = defaultdict(list)
    for file in modules_of(root):
        by_area[area_of(file.relative_to(root))].append(file)
    files = sum(len(group) for group in by_area.values())
    kinds: Counter[str] = Counter()
    chosen: list[dict[str, Any]] = []
    for area, group in sorted(by_area.items()):
        rng.shuffle(group)
        wanted = max(2, round(count * len(group) / files))
        for file in group:
            if wanted == 0:
                break
            found = [one for one in candidates(file) if not _is_long_or_version(one[1])]
            rng.shuffle(found)
            for kind, place, after in sorted(found, key=lambda one: kinds[one[0]])[:20]:
                change = _change(root, place, after)
                if find_place(root, change) == place and (also is None or find_place(also, change)):
                    kinds[kind] += 1
                    wanted -= 1
                    chosen.append(
                        {"id": f"m{len(chosen) + 1:02}", "area": area, "kind": kind, "places": [asdict(change)]}
                    )
                    break
    return chosen


def _change(root: Path, place: Place, after: str) -> Change:
    equal = [
        other.node
        for other in places_in(place.file)
        if other.function == place.function
        and isinstance(other.node, type(place.node))
        and other.source == place.source
    ]
    module = place.file.relative_to(root).as_posix()
    return Change(module, place.function, place.source, after, equal.index(place.node))


def area_of(module: Path) -> str:
    """``flows``, ``tasks/train`` and so on."""
    return "/".join(module.parts[:2]) if module.parts[0] == "tasks" and len(module.parts) > 2 else module.parts[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path.cwd())
    parser.add_argument("--also", type=Path)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    chosen = choose(options.root.resolve(), options.also and options.also.resolve(), options.count, options.seed)
    DATA.write_text(json.dumps(chosen, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for one in chosen:
        print(one["id"], one["area"], one["kind"], *(one["places"]))
    print(Counter(one["kind"] for one in chosen))


if __name__ == "__main__":
    main()
