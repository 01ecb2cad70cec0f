"""One rule of a contract, ready to run, and what rules need to know about a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

COLUMN_ARGUMENTS = ("column", "column_A", "column_B")
LIST_ARGUMENTS = ("column_list", "column_set")


@dataclass(frozen=True)
class Rule:
    """One expectation of a contract.

    Attributes:
        name: shown to people: the name its author gave it, or ``column.expectation``.
        expectation: its snake-case name.
        arguments: its keyword arguments, including those from the recipe.
        severity: critical (rows are quarantined, tables stop the run), warning or info (reported only).
        where: file and line.
        level: whether it names the rows that break it, or judges the table as a whole.
        also_reads: columns that it needs in addition to those in its arguments: those of a ``row_condition``, or all
            where it counts or lists the table's columns.
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
        """The columns that its arguments name."""
        single = [self.arguments[key] for key in COLUMN_ARGUMENTS if key in self.arguments]
        listed = [name for key in LIST_ARGUMENTS for name in self.arguments.get(key) or []]
        return tuple(str(name) for name in [*single, *listed])

    @property
    def reads(self) -> tuple[str, ...]:
        """The columns that it needs to run."""
        return tuple(dict.fromkeys((*self.columns, *self.also_reads)))

    @property
    def tolerance_is_set(self) -> bool:
        """Whether its author limited how many rows may break it; more than that stops the run."""
        return "mostly" in self.arguments


@dataclass(frozen=True)
class ContractContext:
    """What rules for language data take from the recipe where the contract omits it.

    Attributes:
        model: folder or hub id of the trained model, whose tokenizer counts tokens.
        control_tokens: tokens that data must not spell.
        labels: the closed set of answers, where the task has one.
    """

    model: str | None = None
    control_tokens: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fault:
    """Something wrong with a rule.

    Attributes:
        code: the code of the finding.
        what: one sentence.
        remedy: what to do about it.
        argument: the argument at fault; None where it is the rule as a whole.
        is_error: whether it is an error, not a warning.
    """

    code: str
    what: str
    remedy: str
    argument: str | None = None
    is_error: bool = True
