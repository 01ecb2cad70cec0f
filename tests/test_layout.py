"""The layout that `make check` enforces and import-linter cannot express."""

from __future__ import annotations

import ast
from pathlib import Path

from tasks.core.home import PROJECT_ROOT

PACKAGES = ("flows", "retune", "tasks")
MAX_LINES = 300


def modules(package: str) -> list[Path]:
    return sorted((PROJECT_ROOT / package).rglob("*.py"))


def defines_a_flow(path: Path) -> bool:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    decorators = [decorator for function in functions for decorator in function.decorator_list]
    return any(ast.unparse(decorator).split("(")[0] in ("flow", "prefect.flow") for decorator in decorators)


def test_every_module_directly_in_flows_defines_a_prefect_flow() -> None:
    found = {path.name: defines_a_flow(path) for path in (PROJECT_ROOT / "flows").glob("*.py")}
    found.pop("__init__.py")
    assert found and all(found.values()), found


def test_no_module_is_longer_than_one_reading() -> None:
    lengths = {path: len(path.read_bytes().splitlines()) for package in PACKAGES for path in modules(package)}
    assert not {str(path): lines for path, lines in lengths.items() if lines > MAX_LINES}
