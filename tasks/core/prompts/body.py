"""Cutting a prompt file into its head and its parts, before anything is rendered."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tasks.core.findings import Finding
from tasks.core.prompts.syntax import Source

PART = re.compile(r"(system|user|assistant):[ \t]*")
FENCE = "---"


@dataclass(frozen=True)
class Part:
    """One turn of the conversation that a prompt makes.

    Attributes:
        role: system, user or assistant.
        source: its Jinja2.
    """

    role: str
    source: Source


def split_file(text: str, path: str) -> tuple[str, str, int] | Finding:
    """The head's YAML, the body, and the file's line that the body begins at; a finding where there is no head."""
    lines = text.split("\n")
    ends = [number for number, line in enumerate(lines) if line.rstrip() == FENCE]
    if len(ends) < 2 or ends[0] != 0:
        what, remedy = "The prompt has no front matter", f"begin with {FENCE}, YAML, and {FENCE} on its own line"
        return Finding("no-front-matter", what, path, 1, 1, remedy)
    end = ends[1]
    return "\n".join(lines[1:end]), "\n".join(lines[end + 1 :]), end + 2


def read_parts(body: str, first_line: int, path: str) -> tuple[list[Part], list[Finding]]:
    """The parts of a body, and what is wrong with their order.

    A part is cut off at a line that is nothing but ``system:``, ``user:`` or ``assistant:``.
    """
    cut: list[tuple[str, int, list[str]]] = []
    findings: list[Finding] = []
    lines = body.split("\n")
    for number, line in enumerate(lines, first_line):
        if PART.fullmatch(line):
            cut.append((line.split(":")[0], number + 1, []))
        elif cut:
            cut[-1][2].append(line)
        elif line.strip() and not findings:
            remedy = "begin the body with a line 'system:' or 'user:'"
            findings.append(Finding("text-before-parts", "Text before the first part", path, number, 1, remedy))
    if not cut or cut[-1][0] != "user":
        what, remedy = "The last part of a prompt must be the user's", "end the body with a 'user:' part"
        line_number = cut[-1][1] - 1 if cut else first_line
        findings.append(Finding("last-part", what, path, line_number, 1, remedy))
    parts = [_part(role, number, held, path) for role, number, held in cut]
    for index, part in enumerate(parts):
        line_number = cut[index][1] - 1
        if part.role == "system" and index:
            findings.append(Finding("part-order", "A system part that is not the first", path, line_number, 1))
        elif index and part.role == parts[index - 1].role:
            what = f"Two {part.role} parts, one after the other"
            findings.append(Finding("part-order", what, path, line_number, 1, "user and assistant take turns"))
        if not part.source.text.strip():
            findings.append(Finding("empty-part", f"The {part.role} part is empty", path, line_number, 1))
    if parts and [part.role for part in parts if part.role != "system"][:1] == ["assistant"]:
        findings.append(Finding("part-order", "The assistant speaks before the user", path, cut[0][1] - 1, 1))
    return parts, findings


def _part(role: str, first_line: int, lines: list[str], path: str) -> Part:
    """A part without the empty lines around it."""
    text = "\n".join(lines)
    begin = len(text) - len(text.lstrip("\n"))
    return Part(role, Source(text.strip("\n"), path, first_line + begin))
