"""The test files that mirror a module or import it."""

from __future__ import annotations

import ast
from collections import defaultdict
from functools import cache
from pathlib import Path


def close_tests(root: Path, module: Path) -> list[str]:
    """Paths of test files, from the root: those of the module's own room, else all that import it."""
    importers = _importers(root)
    found: set[Path] = set()
    for file in importers.get(_name(root, module), ()):
        found |= {file} if file.name.startswith("test_") else importers.get(_name(root, file), set())
    found = {file for file in found if file.name.startswith("test_")}
    mirrored = set((root / "tests").rglob(f"test_{module.stem}.py"))
    near = {file for file in found | mirrored if module.parent.name in file.parts}
    return sorted(file.relative_to(root).as_posix() for file in near or found | mirrored)


def _name(root: Path, file: Path) -> str:
    return ".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


@cache
def _importers(root: Path) -> dict[str, set[Path]]:
    """By the name of a module, the files under tests/ that import it or something from it."""
    found: dict[str, set[Path]] = defaultdict(set)
    for file in (root / "tests").rglob("*.py"):
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
