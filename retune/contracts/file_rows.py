"""The rows of any file, as a contract sees rows: its columns, and the conversation in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retune.contracts.typed_values import WrongType, as_logical, conversation, majority
from tasks.collect.config import FileFormat, FileSource, SourceSection
from tasks.collect.forms.convert import convert
from tasks.collect.records import Record, Rejected
from tasks.collect.sources import format_of, read_file
from tasks.collect.sources.formats import DELIMITERS, ENDINGS, columns_in
from tasks.core.config import ChatTask
from tasks.core.errors import SourceError
from tasks.core.files import canonical_json
from tasks.core.messages import plain, turn_text, user_text
from tasks.core.tables import CONVERSATION

if TYPE_CHECKING:
    from flows.recipe.recipe import Recipe

MOST_FIELD_BYTES = 64 * 2**20
NO_TYPES = ("csv", "tsv", "text", "markdown")
"""Formats that know nothing but text, where an empty field is a missing value."""
COMMON_DELIMITERS = (";", ",", "\t", "|")
BY_ROWS = ("parquet", "text", "markdown")
"""Formats without lines: a row is known by its number."""


@dataclass(frozen=True)
class Unusable:
    """Something in a file that no rule can judge.

    Attributes:
        row: the row's number, from 1.
        line: where it begins.
        problem: what is wrong.
        value: what stands there, if that is known.
    """

    row: int
    line: int
    problem: str
    value: str = ""


@dataclass
class FileRows:
    """The readable rows of a file.

    Attributes:
        path: the file.
        format: what it is.
        numbers, lines: of each readable row, its number from 1 and the line that it begins at.
        columns: those that are there, with a value for each readable row; None is missing.
        unreadable: the rows that cannot be read.
        said: how its rows were read, where that is not simply by their columns.
    """

    path: Path
    format: FileFormat
    numbers: list[int] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    columns: dict[str, list[Any]] = field(default_factory=dict)
    unreadable: list[Unusable] = field(default_factory=list)
    said: str = ""

    @property
    def count(self) -> int:
        """How many rows the file has, readable or not."""
        return len(self.numbers) + len(self.unreadable)

    def add(self, values: Mapping[str, Any], number: int, line: int) -> None:
        """Append a row; a column that it lacks is missing in it."""
        for name in values:
            if name not in self.columns:
                self.columns[name] = [None] * len(self.numbers)
        for name, column in self.columns.items():
            column.append(values.get(name))
        self.numbers.append(number)
        self.lines.append(line)

    def typed(self, types: Mapping[str, str]) -> dict[str, list[Unusable]]:
        """Make each column of one type, and say which values are of another: they become missing.

        Args:
            types: the logical types that are wanted; of a column without one, the type of most of its values.
        """
        wrong: dict[str, list[Unusable]] = {}
        for name, values in self.columns.items():
            if name == "messages":
                continue  # made of turns already
            logical = types.get(name) or majority(values) or "string"
            self.columns[name], faults = self._as(logical, values)
            if faults:
                wrong[name] = faults
        return wrong

    def _as(self, logical: str, values: Sequence[Any]) -> tuple[list[Any], list[Unusable]]:
        found: list[Any] = []
        faults: list[Unusable] = []
        for position, value in enumerate(values):
            try:
                found.append(None if value is None else as_logical(value, logical, self.format in NO_TYPES))
            except WrongType as reason:
                found.append(None)
                place = self.numbers[position], self.lines[position]
                faults.append(Unusable(*place, f"not {logical}, but {reason}", str(value)))
        return found, faults


def header_of(path: Path) -> list[str]:
    """The names of a file's columns, from its head.

    Raises:
        SourceError: the file is missing, of a format that is not known, broken, or without any row.
    """
    columns = columns_in(path, _format(path), MOST_FIELD_BYTES)
    if columns is None:
        first = next((record for record in _records(path) if record.problem), None)
        raise _no_rows(path, first)
    return columns


def read_rows(path: Path, wanted: Sequence[str], header: Sequence[str], recipe: Recipe | None = None) -> FileRows:
    """Read a file's rows, with the columns that are wanted as far as it has them.

    Where a conversation is wanted and the file does not say it in so many columns, it is made as collecting makes it:
    as the recipe maps the columns, else as the row's form has it.

    Args:
        header: the file's columns.
        recipe: whose sources and task say how columns become fields and a conversation.

    Raises:
        SourceError: the file as a whole cannot be read, or holds no row.
    """
    rows = FileRows(path, _format(path))
    read, rows.said = _how_to_read(wanted, header, path, recipe)
    names = set(wanted)
    for number, record in enumerate(_records(path), 1):
        try:
            if record.values is None:
                raise Rejected(record.problem)
            values = read(_without_blanks(record.values) if rows.format in NO_TYPES else record.values)
        except Rejected as reason:
            rows.unreadable.append(Unusable(number, record.line, str(reason), record.raw))
            continue
        rows.add({name: value for name, value in values.items() if name in names}, number, record.line)
    if not rows.count:
        raise _no_rows(path, None)
    return rows


def other_delimiter(header: Sequence[str], format: FileFormat) -> str | None:
    """What separates the fields of a file whose header reads as one column, by its looks; None where nothing does."""
    if format not in DELIMITERS or len(header) != 1:
        return None
    counts = {mark: header[0].count(mark) for mark in COMMON_DELIMITERS if mark != DELIMITERS[format]}
    mark = max(counts, key=lambda one: counts[one])
    return mark if counts[mark] else None


def as_written(path: Path, numbers: Mapping[int, Any]) -> Iterator[tuple[int, Record]]:
    """The rows of a file with these numbers, as it has them."""
    return ((number, record) for number, record in enumerate(_records(path), 1) if number in numbers)


def _how_to_read(
    wanted: Sequence[str], header: Sequence[str], path: Path, recipe: Recipe | None
) -> tuple[Callable[[Mapping[str, Any]], Mapping[str, Any]], str]:
    """What makes a row of a record, and that in words."""
    task = recipe.task if recipe else ChatTask()
    lacking = set(wanted) - set(header)
    says_a_conversation = bool(lacking.intersection(CONVERSATION))
    if recipe and lacking.intersection([*recipe.fields, *CONVERSATION]) and (source := _source(header, path, recipe)):
        mapping = recipe.collect.columns_of(source)
        return lambda values: _converted(values, source, mapping, task), f"mapped as recipe {recipe.name} does"
    if not says_a_conversation:
        return _with_conversation, ""
    if "messages" in header:
        return _with_conversation, "texts taken from messages"
    if recipe and {task.input, task.output} <= set(header):
        fields = dict.fromkeys((*recipe.fields, task.input, task.output, task.context))
        mapping = {name: name for name in fields if name is not None and name in header}
        said = f"conversation made of {task.input} and {task.output}"
        return lambda values: _converted(values, FileSource(path=str(path)), mapping, task), said
    return lambda values: _converted(values, FileSource(path=str(path)), {}, task), "conversation in the row's own form"


def _source(header: Sequence[str], path: Path, recipe: Recipe) -> SourceSection | None:
    """The source of a recipe that reads this file, else the first whose columns the file has."""
    fitting = [
        source
        for source in recipe.collect.sources
        if recipe.collect.columns_of(source)
        and {column.split(".")[0] for column in recipe.collect.columns_of(source).values()} <= set(header)
    ]
    same = (source for source in fitting if isinstance(source, FileSource) and Path(source.path) == path.resolve())
    return next(same, next(iter(fitting), None))


def _converted(
    values: Mapping[str, Any], source: SourceSection, mapping: Mapping[str, str], task: ChatTask
) -> Mapping[str, Any]:
    found = convert(values, source, mapping, task)
    return _said({**values, **found.fields}, found.messages) if found.messages else {**values, **found.fields}


def _with_conversation(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """A row that may have its conversation in ``messages``."""
    if values.get("messages") is None:
        return values
    try:
        return _said(values, conversation(values["messages"]))
    except WrongType as reason:
        raise Rejected(f"messages: {reason}") from reason


def _said(values: Mapping[str, Any], messages: list[dict[str, Any]]) -> Mapping[str, Any]:
    """A row with what its conversation says; texts that the file has itself are left as they are."""
    answers = "\n".join(_spoken(turn) for turn in messages if turn["role"] == "assistant")
    texts = {"user_text": user_text(messages), "assistant_text": answers}
    return {**texts, **values, "messages": canonical_json(plain(messages))}


def _spoken(turn: Mapping[str, Any]) -> str:
    try:
        return turn_text(turn)
    except ValueError:  # a call whose arguments are no JSON
        return str(turn["content"])


def _without_blanks(values: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: None if value == "" else value for name, value in values.items()}


def _records(path: Path) -> Iterator[Record]:
    return read_file(path, _format(path), name=path.name, max_field_bytes=MOST_FIELD_BYTES)


def _no_rows(path: Path, first: Record | None) -> SourceError:
    """The error of a file without a readable row at its head."""
    what = f"The file has no readable row: {first.problem}" if first else "The file holds no rows"
    return SourceError(what, where=f"{path}:{first.line if first else 1}", remedy="check a file with rows in it")


def _format(path: Path) -> FileFormat:
    if path.is_dir():
        raise SourceError(
            "It is a folder, and one file is checked at a time", where=str(path), remedy="name a file in it"
        )
    if not path.is_file():
        raise SourceError("The file does not exist", where=str(path), remedy="correct the path")
    if format := format_of(path):
        return format
    known = ", ".join(ENDINGS)
    raise SourceError(
        f"Cannot tell the format of a {path.suffix or 'nameless'} file",
        where=str(path),
        remedy=f"known endings are {known}, and .gz or .zst behind",
    )
