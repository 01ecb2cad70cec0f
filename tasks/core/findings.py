"""What is wrong in a file that people write, and where: found one after the other, so that a linter can show it all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """One fault of a file.

    Attributes:
        code: names the kind of fault, in kebab case; stable, for CI.
        what: one sentence.
        path: the file that it stands in, which is a partial's where a prompt's partial is at fault.
        line: from 1.
        column: from 1, in characters.
        remedy: what to do about it.
        severity: an error stops a run before a model is started; a warning does not.
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


def first_error(findings: Iterable[Finding]) -> Finding | None:
    """The first finding that stops a run, or None."""
    return next((finding for finding in findings if finding.severity == "error"), None)
