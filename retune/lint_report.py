"""The findings of a linter, for people, editors and programs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import Any

from tasks.core.findings import Finding


@dataclass(frozen=True)
class LintReport:
    """Findings by file, line and column, in ``checked`` files, each of them a ``noun``.

    ``without_recipe``: files that no known recipe names, so that their columns and fields could not be checked.
    """

    findings: tuple[Finding, ...]
    checked: int
    noun: str = "template"
    without_recipe: tuple[str, ...] = ()

    @property
    def errors(self) -> int:
        return sum(finding.severity == "error" for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        """For programs: ``findings`` (code, what, path, line, column, remedy, severity), and the other attributes."""
        found = [asdict(finding) for finding in self.findings]
        return {"findings": found, "checked": self.checked, "without_recipe": list(self.without_recipe)}

    def as_text(self) -> str:
        """For people and editors: ``path:line:column: code: what``, the remedy below it, and a summary."""
        lines: list[str] = []
        for finding in self.findings:
            mark = "" if finding.severity == "error" else "warning: "
            lines.append(f"{finding.where}: {mark}{finding.code}: {finding.what}")
            lines += [f"  remedy: {finding.remedy}"] if finding.remedy else []
        warnings = len(self.findings) - self.errors
        found = (counted(self.checked, self.noun), counted(self.errors, "error"), counted(warnings, "warning"))
        if self.without_recipe:
            files = ", ".join(self.without_recipe)
            lines.append(f"columns not checked, as no recipe that names it was found (name one with --recipe): {files}")
        return "\n".join([*lines, f"{found[0]} checked: {found[1]}, {found[2]}"])


def as_shown(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Each finding once, by file, line and column; paths relative to the working directory if they are below it."""
    shown = {replace(finding, path=from_here(finding.path)) for finding in findings}
    return tuple(sorted(shown, key=attrgetter("path", "line", "column", "code", "what")))


def counted(number: int, noun: str) -> str:
    """``1 error``, ``2 errors``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def from_here(path: str | Path) -> str:
    """A path, or a place in a file; relative to the working directory if it is below it."""
    absolute = Path(path).absolute()
    return str(absolute.relative_to(Path.cwd())) if absolute.is_relative_to(Path.cwd()) else str(path)
