"""Faults of files that people write, collected so that a linter can show them all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning"]
CONSEQUENCES = ("unused",)
"""Codes of faults that often follow from another fault in the same file."""


@dataclass(frozen=True)
class Finding:
    """A fault of a file; line and column count from 1, the column in characters.

    Attributes:
        code: the kind of fault, in kebab case; stable, for CI.
        path: the file with the fault; a partial's path where the fault is in a partial.
        severity: an error stops a run before a model starts; a warning does not.
    """

    code: str
    what: str
    path: str
    line: int
    column: int
    remedy: str = ""
    severity: Severity = "error"

    @property
    def where(self) -> str:
        """``path:line:column``, as editors and compilers write it."""
        return f"{self.path}:{self.line}:{self.column}"


def errors_in(findings: Iterable[Finding]) -> list[Finding]:
    """The findings that stop a run; those that may be the consequence of another come last."""
    errors = [finding for finding in findings if finding.severity == "error"]
    return sorted(errors, key=lambda finding: finding.code in CONSEQUENCES)


def first_error(findings: Iterable[Finding]) -> Finding | None:
    """The first finding that stops a run, or None."""
    return next(iter(errors_in(findings)), None)
