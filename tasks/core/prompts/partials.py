"""What a template includes and imports: files in the folder ``partials`` beside it, named in quotes, and no others."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from jinja2 import nodes

from tasks.core.findings import Finding
from tasks.core.prompts.syntax import Reference, Source, Template, parse_source, unix_lines

FOLDER = "partials"
MOST_NESTED = 50
REMEDY = f'name a file in {FOLDER}/ in quotes, such as {{% include "{FOLDER}/rules.md" %}}'

Reader = Callable[[str], str]
"""Gives the text of a partial by its name.

Raises:
    OSError: there is no such file. ``UnicodeDecodeError`` where it is not UTF-8.
"""


def partials_beside(path: Path) -> Reader:
    """Reads partials from the folder of a prompt's file; a link that leads out of it is no file."""
    folder = (path.parent / FOLDER).resolve()

    def read(name: str) -> str:
        file = (path.parent / name).resolve()
        if not file.is_relative_to(folder):
            raise FileNotFoundError(name)
        return file.read_text(encoding="utf-8-sig")

    return read


class Use(NamedTuple):
    """A name that a template looks up.

    Attributes:
        template: the template or partial that does.
        name: the name.
        given: False where what the prompt gets cannot fill it: in a macro that is imported without context.
    """

    template: Template
    name: str
    given: bool


class Partials:
    """The partials that a prompt names, read and parsed once each, with what is wrong with them."""

    def __init__(self, folder: Path, read: Reader) -> None:
        self._folder, self._read = folder, read
        self._known: dict[str, Template | None] = {}
        self._uses: dict[str, list[Use]] = {}
        self.findings: list[Finding] = []

    @property
    def sources(self) -> tuple[tuple[str, str], ...]:
        """Name and text of each, in the order of their names."""
        return tuple(sorted((name, found.source.text) for name, found in self._known.items() if found))

    def uses(self, template: Template, within: tuple[str, ...] = ()) -> list[Use]:
        """The names that a template and all it refers to look up, those left out that the template assigns itself.

        Args:
            template: a part of a prompt, or a partial.
            within: names of the partials that led here.
        """
        found = [Use(template, name, True) for name in sorted(template.free)]
        for node in template.references():
            partial = self._follow(template, node, within)
            if partial is None:
                continue
            name, inner = partial
            if name not in self._uses:
                self._uses[name] = self.uses(inner, (*within, name))
            for use in self._uses[name]:
                if not node.with_context:
                    found.append(use._replace(given=False))
                elif use.name not in template.assigned:
                    found.append(use)
        return list(dict.fromkeys(found))

    def _follow(self, template: Template, node: Reference, within: tuple[str, ...]) -> tuple[str, Template] | None:
        """The partial that an include or import names; None, and a finding, where there is none."""
        source = template.source
        if not isinstance(node.template, nodes.Const) or not isinstance(node.template.value, str):
            what = "An include by a name that is not written in the template"
            self._report(source.finding("partial-name", what, (node.lineno, 1), REMEDY))
            return None
        name = node.template.value
        place = source.place_of(name, node.lineno)
        parts = name.split("/")
        if len(parts) < 2 or parts[0] != FOLDER or {"", ".", ".."}.intersection(parts) or not _is_file_name(name):
            self._report(source.finding("partial-name", f"{name!r} does not lie in {FOLDER}/", place, REMEDY))
            return None
        if name in within:
            what = f"The partial {name!r} includes itself{', through others' if name != within[-1] else ''}"
            self._report(source.finding("partial-cycle", what, place))
            return None
        if len(within) == MOST_NESTED:
            self._report(source.finding("partial-cycle", f"Partials include one another {MOST_NESTED} deep", place))
            return None
        if name not in self._known:
            self._known[name] = self._load(name, source, place)
        found = self._known[name]
        return (name, found) if found else None

    def _load(self, name: str, user: Source, place: tuple[int, int]) -> Template | None:
        try:
            text = self._read(name)
        except UnicodeDecodeError as error:
            self._report(user.finding("partial-encoding", f"The partial {name!r} is not UTF-8: {error}", place))
            return None
        except OSError:
            what = f"The partial {name!r} does not exist"
            self._report(user.finding("partial-missing", what, place, f"partials lie in {self._folder / FOLDER}"))
            return None
        template, findings = parse_source(Source(unix_lines(text), str(self._folder / name)))
        self.findings += findings
        return template

    def _report(self, finding: Finding) -> None:
        if finding not in self.findings:
            self.findings.append(finding)


def _is_file_name(name: str) -> bool:
    return "\\" not in name and "\0" not in name and not re.search("[\ud800-\udfff]", name)
