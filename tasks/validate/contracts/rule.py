"""One rule of a contract, ready to run, and what rules need to know about a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

COLUMN_ARGUMENTS = ("column", "column_A", "column_B")
LIST_ARGUMENTS = ("column_list", "column_set")


@dataclass(frozen=True)
class Rule:
    """One expectation of a contract; ``name`` is its author's, or ``column.expectation``, and ``where`` file and line.

    Rows that break a critical rule are quarantined, and a table that does stops the run; warning and info are reported.
    A rule of level row names the rows that break it. ``also_reads`` are columns that it needs in addition to those in
    its
    arguments: those of a ``row_condition``, or all where it counts or lists the table's columns.
    """

    name: str
    expectation: str
    arguments: Mapping[str, Any]
    severity: str
    where: str
    level: Literal["row", "table"] = "row"
    also_reads: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        single = [self.arguments[key] for key in COLUMN_ARGUMENTS if key in self.arguments]
        listed = [name for key in LIST_ARGUMENTS for name in self.arguments.get(key) or []]
        return tuple(str(name) for name in [*single, *listed])

    @property
    def reads(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.columns, *self.also_reads)))

    @property
    def tolerance_is_set(self) -> bool:
        """Whether its author limited how many rows may break it; more than that stops the run."""
        return "mostly" in self.arguments


@dataclass(frozen=True)
class ContractContext:
    """What rules take from the recipe where the contract omits it; the tokenizer of ``model`` counts tokens."""

    model: str | None = None
    control_tokens: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fault:
    """Something wrong with a rule; ``argument`` is the one at fault, None where it is the rule as a whole."""

    code: str
    what: str
    remedy: str
    argument: str | None = None
    is_error: bool = True
