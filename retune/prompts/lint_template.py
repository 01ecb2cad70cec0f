"""A template as far as it can be read, so that a fault in one place does not hide faults in another."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tasks.core.prompts import SUFFIX, Finding, FrontMatter, Prompt, parse_prompt
from tasks.core.prompts.body import read_parts, split_file
from tasks.core.prompts.head import HeadPlaces, read_head
from tasks.core.prompts.syntax import Source, parse_source, unix_lines
from tasks.core.suggestions import did_you_mean


@dataclass(frozen=True)
class LintedTemplate:
    """A template whose head could be read.

    Attributes:
        head, places: its front matter, and the places of its keys.
        sources: its parts and partials, as far as Jinja2 can parse them.
        prompt: None if a run would refuse it.
    """

    path: Path
    head: FrontMatter
    places: HeadPlaces
    sources: tuple[Source, ...]
    prompt: Prompt | None

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The columns that it draws or writes itself; none for a judge."""
        from tasks.generate.written_rows import columns_of_rows

        return () if self.head.judge else columns_of_rows((), [Prompt(self.path, self.head, ())])


def open_template(path: Path) -> tuple[LintedTemplate | None, list[Finding]]:
    """A template and the findings of reading it; None if the head cannot be read."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return None, [_not_utf8(path, error)]
    except OSError as error:
        known = sorted(other.stem for other in path.parent.glob(f"*{SUFFIX}"))
        what = f"The prompt file cannot be read: {error.strerror}"
        remedy = f"{did_you_mean(path.stem, known)}prompts in that folder: {', '.join(known) or 'none'}"
        return None, [Finding("no-file", what, str(path), 1, 1, remedy)]
    prompt, findings = parse_prompt(text, path)
    split = split_file(unix_lines(text), str(path))
    if isinstance(split, Finding):
        return None, findings
    head_text, body, body_line = split
    head, places, _ = read_head(head_text, str(path))
    if head is None:
        return None, findings
    parts = [part.source for part in read_parts(body, body_line, str(path))[0]]
    partials = [Source(text, str(path.parent / name)) for name, text in (prompt.partials if prompt else ())]
    sources = tuple(source for source in (*parts, *partials) if parse_source(source)[0] is not None)
    return LintedTemplate(path, head, places, sources, prompt), findings


def _not_utf8(path: Path, error: UnicodeDecodeError) -> Finding:
    before = error.object[: error.start].decode("utf-8")
    line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
    return Finding("encoding", f"The prompt is not UTF-8: {error.reason}", str(path), line, column, "save it as UTF-8")
