"""Read the rows of any file as a contract sees rows: its columns, and the conversation in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retune.contracts.typed_values import WrongType, as_logical, conversation, majority
from tasks.collect.config import FileFormat, FileSource, SourceSection
from tasks.collect.documents import fields_in
from tasks.collect.forms.convert import convert
from tasks.collect.records import Record, Rejected
from tasks.collect.sources import format_of, read_file
from tasks.collect.sources.contents import held_format
from tasks.collect.sources.formats import DELIMITERS, ENDINGS, columns_in
from tasks.collect.sources.parquet import decimal_columns
from tasks.collect.sources.unpack import PACKED
from tasks.core.config import ChatTask
from tasks.core.errors import SourceError
from tasks.core.files import canonical_json
from tasks.core.messages import plain, turn_text, user_text
from tasks.core.tables import CONVERSATION

if TYPE_CHECKING:
    from flows.recipe.recipe import Recipe

MOST_FIELD_BYTES = 64 * 2**20
TEXT_FORMATS = ("csv", "tsv", "text", "markdown")  # they have only text: an empty field is a missing value
COMMON_DELIMITERS = (";", ",", "\t", "|")
BY_ROWS = ("parquet", "text", "markdown")  # formats without lines, in which a row is found by its number


@dataclass(frozen=True)
class Unusable:
    """A row, or a value, that no rule can check: its row's number from 1, and the line where that begins."""

    row: int
    line: int
    problem: str
    value: str = ""


@dataclass
class FileRows:
    """The readable rows of a file: of each, its number from 1, the line where it begins, and its values by column.

    A value of None is missing. ``decimals``: columns whose numbers are text, so that they stay exact. ``reading`` is
    how the rows were read, if not simply by their columns.
    """

    format: FileFormat
    numbers: list[int] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    columns: dict[str, list[Any]] = field(default_factory=dict)
    unreadable: list[Unusable] = field(default_factory=list)
    decimals: frozenset[str] = frozenset()
    reading: str = ""

    @property
    def count(self) -> int:
        return len(self.numbers) + len(self.unreadable)

    def add(self, values: Mapping[str, Any], number: int, line: int) -> None:
        for name in values:
            if name not in self.columns:
                self.columns[name] = [None] * len(self.numbers)
        for name, column in self.columns.items():
            column.append(values.get(name))
        self.numbers.append(number)
        self.lines.append(line)

    def typed(self, types: Mapping[str, str]) -> dict[str, list[Unusable]]:
        """Convert columns to these types, else to that of most values. Other values become missing and are returned."""
        wrong: dict[str, list[Unusable]] = {}
        for name, values in self.columns.items():
            if name == "messages":
                continue  # already made of turns
            logical = types.get(name) or majority(values) or "string"
            is_written = self.format in TEXT_FORMATS or name in self.decimals
            for at, value in enumerate(values):
                try:
                    values[at] = None if value is None else as_logical(value, logical, is_written)
                except WrongType as reason:
                    values[at] = None
                    fault = Unusable(self.numbers[at], self.lines[at], f"not {logical}, but {reason}", str(value))
                    wrong.setdefault(name, []).append(fault)
        return wrong


def header_of(path: Path) -> list[str]:
    """The names of a file's columns, from its beginning; raises a SourceError if it cannot be read or has no rows."""
    columns = columns_in(path, _format(path), MOST_FIELD_BYTES)
    if columns is None:
        raise _no_rows(path, next((record for record in _records(path) if record.problem), None))
    return columns


def read_rows(path: Path, wanted: Sequence[str], header: Sequence[str], recipe: Recipe | None = None) -> FileRows:
    """Read a file's rows, with the wanted columns that it has; raises a SourceError if it cannot be read or has no row.

    Where a conversation is wanted and the file has no columns for it, it is made as the collect stage makes it: from
    the recipe's column mapping, else from the row's form.
    """
    format = _format(path)
    rows = FileRows(format, decimals=decimal_columns(path) if format == "parquet" else frozenset())
    read, rows.reading = _reader(wanted, header, path, recipe)
    names = set(wanted)
    for number, record in enumerate(_records(path), 1):
        try:
            if record.values is None:
                raise Rejected(record.problem)
            values: Mapping[str, Any] = record.values
            if rows.format in TEXT_FORMATS:
                values = {name: None if value == "" else value for name, value in values.items()}
            values = read(values)
        except Rejected as reason:
            rows.unreadable.append(Unusable(number, record.line, str(reason), record.raw))
            continue
        rows.add({name: value for name, value in values.items() if name in names}, number, record.line)
    if not rows.count:
        raise _no_rows(path, None)
    return rows


def other_delimiter(header: Sequence[str], format: FileFormat) -> str | None:
    """The character that seems to separate the fields of a file whose header reads as one column, or None."""
    if format not in DELIMITERS or len(header) != 1:
        return None
    counts = {mark: header[0].count(mark) for mark in COMMON_DELIMITERS if mark != DELIMITERS[format]}
    mark = max(counts, key=counts.__getitem__)
    return mark if counts[mark] else None


def as_written(path: Path, numbers: Mapping[int, Any]) -> Iterator[tuple[int, Record]]:
    return ((number, record) for number, record in enumerate(_records(path), 1) if number in numbers)


def _reader(
    wanted: Sequence[str], header: Sequence[str], path: Path, recipe: Recipe | None
) -> tuple[Callable[[Mapping[str, Any]], Mapping[str, Any]], str]:
    task = recipe.task if recipe else ChatTask()
    lacking = set(wanted) - set(header)
    own = fields_in(recipe.collect) if recipe else ()
    if recipe and lacking.intersection([*own, *CONVERSATION]) and (source := _source(header, path, recipe)):
        mapping = recipe.collect.columns_of(source)
        return lambda values: _converted(values, source, mapping, task), f"mapped as recipe {recipe.name} does"
    if lacking.isdisjoint(CONVERSATION):
        return _with_conversation, ""
    if "messages" in header:
        return _with_conversation, "texts taken from messages"
    mapping, reading = {}, "conversation in the row's own form"
    if recipe and {task.input, task.output} <= set(header):
        fields = dict.fromkeys((*own, task.input, task.output, task.context))
        mapping = {name: name for name in fields if name is not None and name in header}
        reading = f"conversation made of {task.input} and {task.output}"
    return lambda values: _converted(values, FileSource(path=str(path)), mapping, task), reading


def _source(header: Sequence[str], path: Path, recipe: Recipe) -> SourceSection | None:
    """The source of a recipe that reads this file, else the first whose columns the file has."""
    fitting = [
        source
        for source in recipe.collect.sources
        if (columns := recipe.collect.columns_of(source))
        and {column.split(".")[0] for column in columns.values()} <= set(header)
    ]
    same = (source for source in fitting if isinstance(source, FileSource) and Path(source.path) == path.resolve())
    return next(same, next(iter(fitting), None))


def _converted(
    values: Mapping[str, Any], source: SourceSection, mapping: Mapping[str, str], task: ChatTask
) -> Mapping[str, Any]:
    found = convert(values, source, mapping, task)
    row = {**values, **found.fields}
    return _with_texts(row, found.messages) if found.messages else row


def _with_conversation(values: Mapping[str, Any]) -> Mapping[str, Any]:
    if values.get("messages") is None:
        return values
    try:
        return _with_texts(values, conversation(values["messages"]))
    except WrongType as reason:
        raise Rejected(f"messages: {reason}") from reason


def _with_texts(values: Mapping[str, Any], messages: list[dict[str, Any]]) -> Mapping[str, Any]:
    """A row with the texts of its conversation, except those that the file has itself."""
    answers = "\n".join(_turn_text(turn) for turn in messages if turn["role"] == "assistant")
    texts = {"user_text": user_text(messages), "assistant_text": answers}
    return {**texts, **values, "messages": canonical_json(plain(messages))}


def _turn_text(turn: Mapping[str, Any]) -> str:
    try:
        return turn_text(turn)
    except ValueError:  # the arguments of a call are not valid JSON
        return str(turn["content"])


def _records(path: Path) -> Iterator[Record]:
    return read_file(path, _format(path), name=path.name, max_field_bytes=MOST_FIELD_BYTES)


def _no_rows(path: Path, first: Record | None) -> SourceError:
    what = f"The file has no readable row: {first.problem}" if first else "The file holds no rows"
    return SourceError(what, where=f"{path}:{first.line if first else 1}", remedy="check a file with rows in it")


def _format(path: Path) -> FileFormat:
    if path.is_dir():
        what, remedy = "It is a folder, and one file is checked at a time", "name a file in it"
    elif not path.is_file():
        what, remedy = "The file does not exist", "correct the path"
    elif format := format_of(path):
        return held_format(path, format)
    else:
        what = f"Cannot tell the format of a {path.suffix or 'nameless'} file"
        remedy = f"known endings are {', '.join(ENDINGS)}, and {', '.join(PACKED)} behind"
    raise SourceError(what, where=str(path), remedy=remedy)
