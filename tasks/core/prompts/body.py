"""Split a prompt file into its head and its parts, before rendering."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tasks.core.findings import Finding
from tasks.core.prompts.syntax import Source

PART = re.compile(r"(system|user|assistant):[ \t]*")
FENCE = "---"


@dataclass(frozen=True)
class Part:
    """A turn of a prompt's conversation: its role (system, user or assistant) and its Jinja2 source."""

    role: str
    source: Source


def split_file(text: str, path: str) -> tuple[str, str, int] | Finding:
    """The head's YAML, the body, and the body's first line in the file; a finding if there is no head."""
    lines = text.split("\n")
    ends = [number for number, line in enumerate(lines) if line.rstrip() == FENCE]
    if len(ends) < 2 or ends[0] != 0:
        what, remedy = "The prompt has no front matter", f"begin with {FENCE}, YAML, and {FENCE} on its own line"
        return Finding("no-front-matter", what, path, 1, 1, remedy)
    end = ends[1]
    return "\n".join(lines[1:end]), "\n".join(lines[end + 1 :]), end + 2


def read_parts(body: str, first_line: int, path: str) -> tuple[list[Part], list[Finding]]:
    """The parts of a body, and the faults of their order.

    A part begins at a line that is exactly ``system:``, ``user:`` or ``assistant:``.
    """
    cut: list[tuple[str, int, list[str]]] = []
    findings: list[Finding] = []

    def report(code: str, what: str, line: int, remedy: str = "") -> None:
        findings.append(Finding(code, what, path, line, 1, remedy))

    for number, line in enumerate(body.split("\n"), first_line):
        if PART.fullmatch(line):
            cut.append((line.split(":")[0], number + 1, []))
        elif cut:
            cut[-1][2].append(line)
        elif line.strip() and not findings:
            report(
                "text-before-parts", "Text before the first part", number, "begin the body with 'system:' or 'user:'"
            )
    if not cut or cut[-1][0] != "user":
        last = cut[-1][1] - 1 if cut else first_line
        report("last-part", "The last part of a prompt must be the user's", last, "end the body with a 'user:' part")
    parts = [_part(role, number, lines, path) for role, number, lines in cut]
    roles = [part.role for part in parts]
    for index, part in enumerate(parts):
        line_number = cut[index][1] - 1
        if part.role == "system" and index:
            report("part-order", "A system part that is not the first", line_number)
        elif index and part.role == roles[index - 1]:
            report("part-order", f"Two {part.role} parts in sequence", line_number, "user and assistant take turns")
        if not part.source.text.strip():
            report("empty-part", f"The {part.role} part is empty", line_number)
    if [role for role in roles if role != "system"][:1] == ["assistant"]:
        report("part-order", "The assistant speaks before the user", cut[0][1] - 1)
    return parts, findings


def _part(role: str, first_line: int, lines: list[str], path: str) -> Part:
    text = "\n".join(lines)
    begin = len(text) - len(text.lstrip("\n"))
    return Part(role, Source(text.strip("\n"), path, first_line + begin))
