"""Prompt templates: one file each, YAML front matter, then parts (system:, user:, assistant:) in Jinja2.

The body is cut into parts before anything is rendered, so a row's value can never open a part of its own; values
are data and are never compiled. Rendering is sandboxed and strict: an undefined variable is an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import yaml
from jinja2 import StrictUndefined, Template, TemplateSyntaxError, meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from pydantic import Field, ValidationError

from tasks.core.config import Name, Section
from tasks.core.errors import PromptError
from tasks.core.files import digest_of

SUFFIX = ".md"
PART = re.compile(r"^(system|user|assistant):[ \t]*$")
ENVIRONMENT = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=False)


class Sampling(Section):
    """Sampling parameters, sent with every request: nothing is left to the server's defaults."""

    temperature: float = Field(1.0, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    max_tokens: int = Field(256, ge=1)


class Output(Section):
    """How an answer becomes fields of a row."""

    format: Literal["text", "json"] = "text"
    field: Name = Field("text", description="the column that a text answer fills")
    json_schema: dict[str, Any] | None = Field(None, description="JSON Schema of an object; its properties are columns")
    accept: str | None = Field(None, description="of a check: the answer must match this regular expression, any case")

    @property
    def fields(self) -> tuple[str, ...]:
        """The columns that an answer fills."""
        if self.format == "text":
            return (self.field,)
        return tuple((self.json_schema or {}).get("properties", {}))


class FrontMatter(Section):
    """The head of a prompt file."""

    name: Name
    version: int = Field(ge=1)
    purpose: str
    variables: tuple[str, ...] = ()
    output: Output = Output()
    sampling: Sampling = Sampling()
    rows_per_document: int = Field(1, ge=1, le=1000)


@dataclass(frozen=True)
class Prompt:
    """A template that was read and checked."""

    path: Path
    head: FrontMatter
    parts: tuple[tuple[str, str], ...]

    @property
    def name(self) -> str:
        return self.head.name

    @property
    def digest(self) -> str:
        """SHA-256 of everything that shapes a request or its reading; the prose of ``purpose`` is left out."""
        return digest_of([self.head.model_dump(mode="json", exclude={"purpose"}), self.parts])

    @cached_property
    def _compiled(self) -> list[tuple[str, Template]]:
        return [(role, ENVIRONMENT.from_string(source)) for role, source in self.parts]

    def render(self, values: Mapping[str, Any]) -> list[dict[str, str]]:
        """The conversation to send for one row: ``[{role, content}, ...]``.

        Raises:
            PromptError: a declared variable is missing from ``values``, or the template fails on them.
        """
        given = {name: values[name] for name in self.head.variables if name in values}
        try:
            return [{"role": role, "content": part.render(given).strip()} for role, part in self._compiled]
        except Exception as error:  # an expression in a template can raise anything, such as ZeroDivisionError
            raise PromptError(f"The template cannot be rendered: {error}", where=str(self.path)) from error


def read_prompt(path: Path) -> Prompt:
    """Read a prompt file and find everything that can be wrong with it before a model is started.

    Raises:
        PromptError: with the file and line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        known = ", ".join(sorted(other.stem for other in path.parent.glob(f"*{SUFFIX}"))) or "none"
        raise PromptError(
            "The prompt file does not exist", where=str(path), remedy=f"prompts in that folder: {known}"
        ) from error
    except UnicodeDecodeError as error:
        raise PromptError(f"The prompt is not UTF-8: {error}", where=str(path), remedy="save it as UTF-8") from error
    head_text, body, body_line = _split(text, path)
    head = _read_head(head_text, path)
    if head.name != path.stem:
        raise PromptError(
            f"The prompt's name is {head.name!r} but its file is {path.name!r}",
            where=f"{path}:{_line_of(text, 'name:')}",
            remedy=f"name: {path.stem}",
        )
    parts = _read_parts(body, body_line, path)
    _check_variables(parts, head, path, variables_line=_line_of(text, "variables:"))
    return Prompt(path, head, tuple((role, source) for role, source, _ in parts))


def _split(text: str, path: Path) -> tuple[str, str, int]:
    lines = text.splitlines()
    if not lines or lines[0].strip() != "---" or "---" not in (line.strip() for line in lines[1:]):
        raise PromptError(
            "The prompt has no front matter", where=f"{path}:1", remedy="begin with ---, YAML, and --- on its own line"
        )
    end = next(index for index, line in enumerate(lines[1:], 1) if line.strip() == "---")
    return "\n".join(lines[1:end]), "\n".join(lines[end + 1 :]), end + 2


def _read_head(head_text: str, path: Path) -> FrontMatter:
    try:
        data = yaml.safe_load(head_text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 2 if mark else 1
        raise PromptError(f"The front matter is no YAML: {error}", where=f"{path}:{line}") from error
    try:
        head = FrontMatter.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        line = _line_of("---\n" + head_text, f"{str(first['loc'][-1]) if first['loc'] else ''}:")
        raise PromptError(f"Front matter, {key}: {first['msg']}", where=f"{path}:{line}") from error
    _check_output(head.output, path)
    return head


def _check_output(output: Output, path: Path) -> None:
    if output.accept is not None:
        try:
            re.compile(output.accept)
        except re.error as error:
            raise PromptError(f"output.accept is no regular expression: {error}", where=str(path)) from error
    if output.format == "json":
        if not output.fields:
            raise PromptError(
                "A json output needs output.json_schema with properties",
                where=str(path),
                remedy="add json_schema: {type: object, properties: {...}, required: [...]}",
            )
        try:
            Draft202012Validator.check_schema(output.json_schema or {})
        except SchemaError as error:
            raise PromptError(f"output.json_schema is no JSON Schema: {error.message}", where=str(path)) from error


def _read_parts(body: str, first_line: int, path: Path) -> list[tuple[str, str, int]]:
    """Role, source and first line of every part."""
    parts: list[tuple[str, list[str], int]] = []
    for number, line in enumerate(body.splitlines(), first_line):
        if marker := PART.match(line):
            parts.append((marker[1], [], number + 1))
        elif parts:
            parts[-1][1].append(line)
        elif line.strip():
            raise PromptError(
                "Text before the first part",
                where=f"{path}:{number}",
                remedy="begin the body with a line 'system:' or 'user:'",
            )
    if not parts or parts[-1][0] != "user":
        raise PromptError(
            "The last part of a prompt must be the user's", where=str(path), remedy="end the body with a 'user:' part"
        )
    return [(role, "\n".join(lines).strip("\n"), number) for role, lines, number in parts]


def _check_variables(parts: list[tuple[str, str, int]], head: FrontMatter, path: Path, variables_line: int) -> None:
    used: set[str] = set()
    for _, source, first_line in parts:
        try:
            tree = ENVIRONMENT.parse(source)
            names = meta.find_undeclared_variables(tree)
            ENVIRONMENT.from_string(source)
        except TemplateSyntaxError as error:
            raise PromptError(
                f"Jinja2: {error.message}",
                where=f"{path}:{first_line + error.lineno - 1}",
                remedy="variables are written {{ name }}, statements {% ... %}",
            ) from error
        for name in sorted(names - set(head.variables)):
            line = first_line - 1 + min(node.lineno for node in tree.find_all(nodes.Name) if node.name == name)
            raise PromptError(
                f"The template uses {name!r}, which is not declared",
                where=f"{path}:{line}",
                remedy=f"declare it under variables (now: {', '.join(head.variables) or 'none'}), or correct the name",
            )
        used |= names
    for name in head.variables:
        if name not in used:
            raise PromptError(
                f"The variable {name!r} is declared but never used",
                where=f"{path}:{variables_line}",
                remedy="use it in the body, or remove it from variables",
            )


def _line_of(text: str, needle: str) -> int:
    return next((number for number, line in enumerate(text.splitlines(), 1) if needle in line), 1)
