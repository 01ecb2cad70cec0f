"""The names of a recipe's sources, as other sections of the recipe use them."""

from __future__ import annotations

from collections.abc import Collection


def belongs(source: str, name: str) -> bool:
    """Whether rows of a source are those that a recipe names: of a folder or a glob each file is a source below it."""
    return source == name or source.startswith(f"{name}/")


def is_any_of(source: str, names: Collection[str]) -> bool:
    """Whether rows of a source are those of one of several that a recipe names."""
    return any(belongs(source, name) for name in names)
