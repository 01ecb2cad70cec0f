"""The test files that mirror a module or import it, or a module that imports it."""

from __future__ import annotations

import ast
from collections import defaultdict
from functools import cache
from pathlib import Path


def close_tests(root: Path, module: Path) -> list[str]:
    """Paths of test files, from the root: those of the module's own room, else all that import it.

    Where no test imports it, those of the modules that do.
    """
    found = _tests_of(root, module) or {
        test
        for file in _importers(root).get(_name(root, module), ())
        if file.relative_to(root).parts[0] != "tests"
        for test in _tests_of(root, file)
    }
    return sorted(file.relative_to(root).as_posix() for file in found)


def _tests_of(root: Path, module: Path) -> set[Path]:
    importers = _importers(root)
    found: set[Path] = set()
    for file in importers.get(_name(root, module), ()):
        if file.name.startswith("test_"):
            found.add(file)
        elif file.is_relative_to(root / "tests"):
            found |= importers.get(_name(root, file), set())
    found = {file for file in found if file.name.startswith("test_")}
    mirrored = set((root / "tests").rglob(f"test_{module.stem}.py"))
    near = {file for file in found | mirrored if module.parent.name in file.parts}
    return near or found | mirrored


def _name(root: Path, file: Path) -> str:
    return ".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


@cache
def _importers(root: Path) -> dict[str, set[Path]]:
    """By the name of a module, the files that import it or something from it."""
    found: dict[str, set[Path]] = defaultdict(set)
    for file in (path for top in ("tests", "flows", "retune", "tasks") for path in (root / top).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
            else:
                continue
            for name in names:
                found[name].add(file)
    return found
