"""A Jinja2 source, parsed and never run: its names, its includes, and their places."""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from jinja2 import TemplateSyntaxError, nodes
from jinja2.lexer import ignored_tokens
from jinja2.meta import TrackingCodeGenerator
from jinja2.parser import Parser

from tasks.core.findings import Finding
from tasks.core.templates.environment import TemplateEnvironment, UnfoldedCode

ENVIRONMENT = TemplateEnvironment()
INHERITANCE = (nodes.Extends, nodes.Block, nodes.ScopedEvalContextModifier)
Place = tuple[int, int]
Reference = nodes.Include | nodes.Import | nodes.FromImport


def unix_lines(text: str) -> str:
    """The text with line feeds only, as Jinja2 counts lines."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


class Token(NamedTuple):
    """A token of a source, and its offset."""

    kind: str
    text: str
    at: int


class _Names(TrackingCodeGenerator, UnfoldedCode):
    """Collects the names that a template looks up in what it is given."""


@dataclass(frozen=True)
class Source:
    """A part of a prompt, or a partial: its Jinja2, its file, and the file's line at which the text begins."""

    text: str
    path: str
    first_line: int = 1

    def finding(self, code: str, what: str, place: Place, remedy: str = "") -> Finding:
        line, column = place
        return Finding(code, what, self.path, self.first_line - 1 + line, column, remedy)

    @cached_property
    def words(self) -> tuple[tuple[Token, ...], TemplateSyntaxError | None]:
        """Its tokens, and the error at which Jinja2's lexer stops."""
        found: list[Token] = []
        end = 0
        try:
            for _, kind, text in ENVIRONMENT.lex(self.text):
                # No token holds the white space that "-" strips, so search for each token after the previous one.
                at = self.text.find(text, end)
                found.append(Token(kind, text, at))
                end = at + len(text)
        except TemplateSyntaxError as error:
            return tuple(found), error
        return tuple(found), None

    @property
    def tokens(self) -> tuple[Token, ...]:
        return self.words[0]

    @cached_property
    def _line_starts(self) -> list[int]:
        return [0, *(end.end() for end in re.finditer("\n", self.text))]

    def place(self, at: int) -> Place:
        """Line and column, from 1 within this source, of an offset."""
        line = bisect.bisect_right(self._line_starts, at)
        return line, at - self._line_starts[line - 1] + 1

    def place_of(self, text: str, line: int) -> Place:
        """The place of a word on or after a line of this source; the line's beginning if it is not found."""
        for token in self.tokens:
            if token.kind != "data" and token.text.strip("\"'") == text and self.place(token.at)[0] >= line:
                return self.place(token.at)
        return line, 1


@dataclass(frozen=True)
class Template:
    """A parsed source: its syntax tree, and the free names, which the prompt must give."""

    source: Source
    tree: nodes.Template
    free: frozenset[str]

    @cached_property
    def assigned(self) -> frozenset[str]:
        """The names that it assigns somewhere: an included partial may see them."""
        names = {node.name for node in self.tree.find_all(nodes.Name) if node.ctx in ("store", "param")}
        names |= {node.name for node in self.tree.find_all(nodes.Macro)}
        names |= {node.target for node in self.tree.find_all(nodes.Import)}
        for node in self.tree.find_all(nodes.FromImport):
            names |= {name if isinstance(name, str) else name[1] for name in node.names}
        return frozenset(names)

    def references(self) -> Iterator[Reference]:
        return (node for node in self.tree.find_all(nodes.Stmt) if isinstance(node, Reference))

    def place_of_name(self, name: str) -> Place:
        lines = [node.lineno for node in self.tree.find_all(nodes.Name) if node.name == name and node.ctx == "load"]
        return self.source.place_of(name, min(lines, default=1))


def parse_source(source: Source) -> tuple[Template | None, list[Finding]]:
    """Parse and compile a source without computing any part of it; None if Jinja2 cannot."""
    _, broken = source.words
    if broken is not None:
        return None, [_syntax(source, broken, _lexer_place(source, broken.lineno))]
    try:
        parser = Parser(ENVIRONMENT, source.text)
        tree = parser.parse()
    except TemplateSyntaxError as error:
        return None, [_syntax(source, error, _parser_place(source, parser, error.lineno))]
    except (ValueError, RecursionError) as error:  # a number of ten thousand digits; ten thousand brackets
        return None, [source.finding("jinja-syntax", f"Jinja2: {error}", (1, 1))]
    try:
        tree.set_environment(ENVIRONMENT)
        if findings := [*_unknown(source, tree), *_inheritance(source, tree)]:
            return None, findings
        names = _Names(ENVIRONMENT)
        names.visit(tree)
        ENVIRONMENT.compile(tree)
    except TemplateSyntaxError as error:
        return None, [_syntax(source, error, (error.lineno, 1))]
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:  # more than 20 loops in one another
        what = f"Jinja2: {error.msg if isinstance(error, SyntaxError) else error}"
        return None, [source.finding("jinja-syntax", what, (1, 1), "make the template simpler")]
    return Template(source, tree, frozenset(names.undeclared_identifiers)), []


def _syntax(source: Source, error: TemplateSyntaxError, place: Place) -> Finding:
    what = re.sub(r" at \d+$", "", error.message or "")  # an offset, which the place replaces
    remedy = "variables are written {{ name }}, statements {% ... %}, braces themselves {{ '{{' }}"
    return source.finding("jinja-syntax", f"Jinja2: {what}", place, remedy)


def _lexer_place(source: Source, line: int) -> Place:
    end = source.tokens[-1].at + len(source.tokens[-1].text) if source.tokens else 0
    rest = source.text[end:]
    place = source.place(end + len(rest) - len(rest.lstrip()))
    return place if place[0] == line else (line, 1)


def _parser_place(source: Source, parser: Parser, line: int) -> Place:
    """The token at which the parser stopped, found by the number of tokens left."""
    left = sum(1 for _ in parser.stream)
    words = [token for token in source.tokens if token.kind not in (*ignored_tokens, "raw_begin", "raw_end")]
    if 0 < left <= len(words) and (place := source.place(words[-left].at))[0] == line:
        return place
    return line, 1


def _unknown(source: Source, tree: nodes.Template) -> Iterator[Finding]:
    for kind, known in ((nodes.Filter, ENVIRONMENT.filters), (nodes.Test, ENVIRONMENT.tests)):
        for node in tree.find_all(kind):
            if node.name not in known:
                what = f"Jinja2: no {type(node).__name__.lower()} is named {node.name!r}"
                remedy = "a plan must be reproducible: draw with a sampler" if node.name == "random" else ""
                yield source.finding("unknown-filter", what, source.place_of(node.name, node.lineno), remedy)


def _inheritance(source: Source, tree: nodes.Template) -> Iterator[Finding]:
    for node in tree.find_all(INHERITANCE):
        what = "Jinja2: {% extends %}, {% block %} and {% autoescape %} have no meaning in a prompt"
        yield source.finding("jinja-syntax", what, (node.lineno, 1), "use {% include %} or a macro")
