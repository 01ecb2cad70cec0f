"""Names of a recipe's sources, as its other sections use them."""

from __future__ import annotations

from collections.abc import Collection


def belongs(source: str, name: str) -> bool:
    """Whether a row's source is the named one: each file of a folder or a glob is a source below it."""
    return source == name or source.startswith(f"{name}/")


def is_any_of(source: str, names: Collection[str]) -> bool:
    """Whether a row's source is one of those named."""
    return any(belongs(source, name) for name in names)
