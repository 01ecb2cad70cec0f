"""A row as the readers of forms see it: its parts by name, and what nothing reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tasks.collect.config import Layout
from tasks.collect.forms.values import at_path, is_missing, optional_text, spoken, text_of
from tasks.collect.records import Rejected


@dataclass(frozen=True)
class Part:
    """A value of a row under the name of its column."""

    name: str
    value: Any
    ignored: set[str]

    def text(self) -> str:
        return text_of(self._spoken(), self.name)

    def optional(self) -> str:
        """As ``text``, with "" for a missing value."""
        return optional_text(self._spoken(), self.name)

    def _spoken(self) -> Any:
        if isinstance(self.value, list) and any(isinstance(item, str) for item in self.value):
            raise Rejected(f"type: {self.name!r} is a list of texts, not a text")
        return spoken(self.value, self.name, self.ignored)


@dataclass(frozen=True)
class Row:
    """A row of a source.

    Attributes:
        read: the columns that were read, or that the recipe names.
        ignored: what was left out of the conversation without a reason to reject it, such as ``messages[].name``.
    """

    values: Mapping[str, Any]
    layout: Layout
    read: set[str]
    ignored: set[str] = field(default_factory=set)

    def part(self, named: str | None, *own: str) -> Part:
        """The value at a path of the layout; without one, the first of the form's own columns that has a value."""
        if named is not None:
            self.read.add(first_key(named))
            return Part(named, at_path(self.values, named) if named else None, self.ignored)
        found = next((name for name in own if not is_missing(self.values.get(name))), own[0])
        self.read.add(found)
        return Part(found, self.values.get(found), self.ignored)


def first_key(path: str) -> str:
    return path.split(".")[0]
