"""The partials that a template includes or imports: files in the folder ``partials`` next to it, named in quotes."""

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
NOT_IN_NAMES = re.compile("[\\\\\0\ud800-\udfff]")
REMEDY = f'name a file in {FOLDER}/ in quotes, such as {{% include "{FOLDER}/rules.md" %}}'

Reader = Callable[[str], str]
"""Returns the text of a partial by its name. Raises OSError: no such file; UnicodeDecodeError: it is not UTF-8."""


def partials_beside(path: Path) -> Reader:
    """A reader of the partials of a prompt's file; it does not follow links out of their folder."""
    folder = (path.parent / FOLDER).resolve()

    def read(name: str) -> str:
        file = (path.parent / name).resolve()
        if not file.is_relative_to(folder):
            raise FileNotFoundError(name)
        return file.read_text(encoding="utf-8-sig")

    return read


class Use(NamedTuple):
    """A name that a template looks up.

    ``given``: False if the prompt's variables cannot fill it: in a macro that is imported without context.
    """

    template: Template
    name: str
    given: bool


class Partials:
    """The partials that a prompt names, each read and parsed once, and their faults."""

    def __init__(self, folder: Path, read: Reader) -> None:
        self._folder, self._read = folder, read
        self._known: dict[str, Template | None] = {}
        self._uses: dict[str, list[Use]] = {}
        self.findings: list[Finding] = []

    @property
    def sources(self) -> tuple[tuple[str, str], ...]:
        """Name and text of each partial, sorted by name."""
        return tuple(sorted((name, found.source.text) for name, found in self._known.items() if found))

    def uses(self, template: Template, within: tuple[str, ...] = ()) -> list[Use]:
        """The names that a template and its partials look up, without those that the template itself assigns.

        ``within``: names of the partials that led here.
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
        source = template.source
        name = node.template.value if isinstance(node.template, nodes.Const) else None
        if not isinstance(name, str):
            what = "An include by a name that is not written in the template"
            self._report(source.finding("partial-name", what, (node.lineno, 1), REMEDY))
            return None
        place = source.place_of(name, node.lineno)
        if not _is_partial(name):
            self._report(source.finding("partial-name", f"{name!r} is not a file in {FOLDER}/", place, REMEDY))
        elif name in within:
            what = f"The partial {name!r} includes itself{', through others' if name != within[-1] else ''}"
            self._report(source.finding("partial-cycle", what, place))
        elif len(within) == MOST_NESTED:
            self._report(source.finding("partial-cycle", f"Partials include one another {MOST_NESTED} deep", place))
        else:
            if name not in self._known:
                self._known[name] = self._load(name, source, place)
            found = self._known[name]
            return (name, found) if found else None
        return None

    def _load(self, name: str, user: Source, place: tuple[int, int]) -> Template | None:
        try:
            text = self._read(name)
        except UnicodeDecodeError as error:
            self._report(user.finding("partial-encoding", f"The partial {name!r} is not UTF-8: {error}", place))
            return None
        except OSError:
            what = f"The partial {name!r} does not exist"
            self._report(
                user.finding(
                    "partial-missing", what, place, f"create it in {self._folder / FOLDER}, or correct the name"
                )
            )
            return None
        template, findings = parse_source(Source(unix_lines(text), str(self._folder / name)))
        self.findings += findings
        return template

    def _report(self, finding: Finding) -> None:
        if finding not in self.findings:
            self.findings.append(finding)


def _is_partial(name: str) -> bool:
    first, *rest = name.split("/")
    return first == FOLDER and bool(rest) and not {"", ".", ".."}.intersection(rest) and not NOT_IN_NAMES.search(name)
