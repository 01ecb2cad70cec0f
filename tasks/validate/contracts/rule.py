"""One rule of a contract, ready to be run, and what rules need to know of a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Level = Literal["row", "table"]
COLUMN_ARGUMENTS = ("column", "column_A", "column_B")
LIST_ARGUMENTS = ("column_list", "column_set")


@dataclass(frozen=True)
class Rule:
    """One expectation of a contract.

    Attributes:
        name: by what people find it: ``column.expectation``, or the name its author gave it.
        expectation: its snake-case name.
        arguments: its keyword arguments, those that the recipe gave among them.
        severity: critical (rows are quarantined, tables stop the run), warning or info (reported only).
        where: file and line.
        level: whether it names the rows that break it, or judges the table as a whole.
        also_reads: columns that it needs beside those that its arguments name: those of a ``row_condition``, or all
            where it counts or lists the table's columns.
    """

    name: str
    expectation: str
    arguments: Mapping[str, Any]
    severity: str
    where: str
    level: Level = "row"
    also_reads: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that its arguments name."""
        single = [self.arguments[key] for key in COLUMN_ARGUMENTS if key in self.arguments]
        listed = [name for key in LIST_ARGUMENTS for name in self.arguments.get(key) or []]
        return tuple(str(name) for name in [*single, *listed])

    @property
    def reads(self) -> tuple[str, ...]:
        """The columns that must be there for it to run."""
        return tuple(dict.fromkeys((*self.columns, *self.also_reads)))

    @property
    def tolerance_is_set(self) -> bool:
        """Whether its author said how many rows may break it: more than that stops the run."""
        return "mostly" in self.arguments


@dataclass(frozen=True)
class ContractContext:
    """What rules of language data take from the recipe where the contract leaves it out.

    Attributes:
        model: folder or hub id of the model that is trained, whose tokenizer counts tokens.
        control_tokens: what must not be written in data.
        labels: the closed set of answers, where the task has one.
    """

    model: str | None = None
    control_tokens: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
