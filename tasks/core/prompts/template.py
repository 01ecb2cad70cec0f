"""Prompt templates: one file each, YAML front matter, then parts (system:, user:, assistant:) in Jinja2.

The body is split into parts before rendering, so a row's value can never begin a part. Reading parses templates and
never runs them; they run in a child process (:mod:`tasks.core.prompts.rendering`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.core.errors import PromptError, joined
from tasks.core.files import digest_of
from tasks.core.findings import Finding, errors_in, first_error
from tasks.core.prompts.body import Part, read_parts, split_file
from tasks.core.prompts.front_matter import FrontMatter
from tasks.core.prompts.head import HeadPlaces, read_head
from tasks.core.prompts.partials import Partials, Reader, Use, partials_beside
from tasks.core.prompts.syntax import parse_source, unix_lines

SUFFIX = ".md"


@dataclass(frozen=True)
class Prompt:
    """A template that was read and checked.

    Attributes:
        parts: role and Jinja2 source of each turn.
        partials: name and source of all that it includes or imports, directly or not.
        places: places of the head's keys in the file.
        part_lines: the file's first line of each part's source.
    """

    path: Path
    head: FrontMatter
    parts: tuple[tuple[str, str], ...]
    partials: tuple[tuple[str, str], ...] = ()
    places: HeadPlaces = field(default_factory=HeadPlaces, compare=False, repr=False)
    part_lines: tuple[int, ...] = field(default=(), compare=False, repr=False)

    @property
    def name(self) -> str:
        return self.head.name

    @property
    def digest(self) -> str:
        """SHA-256 of everything that shapes a request or the reading of its answer; ``purpose`` does not count."""
        head = self.head.model_dump(mode="json", exclude={"purpose"})
        # A digest sorts keys, but a teacher writes properties in the order of the schema.
        return digest_of([head, json.dumps(self.head.output.json_schema), self.parts, self.partials])

    def namespace(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: values[name] for name in self.head.variables if name in values} | self.head.judging


def read_prompt(path: Path) -> Prompt:
    """Read a prompt file and check it before a model starts; a PromptError lists its faults and their places."""
    prompt, findings = check_prompt(path)
    if errors := errors_in(findings):
        raise joined(PromptError(error.what, where=error.where, remedy=error.remedy) for error in errors)
    if prompt is None:
        raise PromptError("The prompt cannot be read", where=str(path))
    return prompt


def check_prompt(path: Path) -> tuple[Prompt | None, list[Finding]]:
    """Read a prompt file: the prompt (None after an error) and its faults, in the order of lines.

    Raises PromptError: the file does not exist or is not UTF-8.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise PromptError(f"The prompt is not UTF-8: {error}", where=str(path), remedy="save it as UTF-8") from error
    except OSError as error:
        known = ", ".join(sorted(other.stem for other in path.parent.glob(f"*{SUFFIX}"))) or "none"
        what = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
        remedy = f"prompts in that folder: {known}"
        raise PromptError(f"The prompt file {what}", where=str(path), remedy=remedy) from error
    return parse_prompt(text, path, partials_beside(path))


def parse_prompt(text: str, path: Path, partials: Reader | None = None) -> tuple[Prompt | None, list[Finding]]:
    """Read the text of a prompt file: the prompt (None after an error) and its faults, in the order of lines.

    The text may differ from the file's. ``partials``: None reads from the folder ``partials`` next to the file.
    """
    where = str(path)
    split = split_file(unix_lines(text), where)
    if isinstance(split, Finding):
        return None, [split]
    head_text, body, body_line = split
    head, places, findings = read_head(head_text, where)
    if head is not None and head.name != path.stem:
        what = f"The prompt's name is {head.name!r} but its file is {path.name!r}"
        findings.append(Finding("name", what, where, *places.find_value("name"), f"name: {path.stem}"))
    parts, order = read_parts(body, body_line, where)
    loaded = Partials(path.parent, partials or partials_beside(path))
    uses, syntax = _uses(parts, loaded)
    findings += [*order, *syntax, *loaded.findings]
    if head is not None:
        findings += _undeclared(uses, head)
        if parts and not syntax and not loaded.findings:
            findings += _unused(uses, head, places, where)
    findings.sort(key=lambda finding: (finding.path != where, finding.path, finding.line, finding.column))
    if head is None or first_error(findings):
        return None, findings
    sources = tuple((part.role, part.source.text) for part in parts)
    lines = tuple(part.source.first_line for part in parts)
    return Prompt(path, head, sources, loaded.sources, places, lines), findings


def _uses(parts: Sequence[Part], partials: Partials) -> tuple[list[Use], list[Finding]]:
    uses: list[Use] = []
    findings: list[Finding] = []
    for part in parts:
        template, found = parse_source(part.source)
        findings += found
        if template is not None:
            uses += partials.uses(template)
    return uses, findings


def _undeclared(uses: Sequence[Use], head: FrontMatter) -> Iterator[Finding]:
    known = {**head.variables, **head.judging}
    seen: set[tuple[str, str, bool]] = set()
    for template, name, given in uses:
        source = template.source
        if (given and name in known) or (key := (source.path, name, given)) in seen:
            continue
        seen.add(key)
        place = template.place_of_name(name)
        if given:
            remedy = f"declare it under variables (now: {', '.join(head.variables) or 'none'}), or correct the name"
            yield source.finding("undeclared", f"The template uses {name!r}, which is not declared", place, remedy)
        else:
            what = f"{name!r} is unknown here: an imported macro sees only its arguments"
            yield source.finding("undeclared", what, place, "make it an argument, or import 'with context'")


def _unused(uses: Sequence[Use], head: FrontMatter, places: HeadPlaces, path: str) -> Iterator[Finding]:
    used = {use.name for use in uses if use.given}
    for name in head.variables:
        if name not in used:
            what, remedy = f"The variable {name!r} is declared but never used", "use it in the body, or remove it"
            yield Finding("unused", what, path, *places.find("variables", name), remedy)
    if "criteria" in head.judging and "criteria" not in used:
        remedy = "write {{ criteria }} or a loop over it into the body"
        what = "The judge's criteria are never shown to it"
        yield Finding("unused", what, path, *places.find("judge", "criteria"), remedy, "warning")
