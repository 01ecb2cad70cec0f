"""Files, folders and globs as a source."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tasks.collect.config import FileFormat, FileSource
from tasks.collect.records import ReaderSettings, Record
from tasks.collect.sources.formats import ENDINGS, columns_in, format_of, read_file
from tasks.collect.sources.unpack import PACKED
from tasks.core.errors import SourceError
from tasks.core.files import file_digest, storable

WILDCARDS = frozenset("*?[")


@dataclass(frozen=True)
class FoundFiles:
    """The files of a path.

    Attributes:
        root: the folder that holds them.
        read: (path below the root, format), sorted by path; a name that is not UTF-8 is kept as the system gives it.
        passed_over: paths below the root of files with unknown endings.
    """

    root: Path
    read: tuple[tuple[str, FileFormat], ...]
    passed_over: tuple[str, ...]


class FileReader:
    def __init__(self, source: FileSource, settings: ReaderSettings, columns: Iterable[str] | None = None) -> None:
        self._source, self._most = source, settings.max_field_bytes
        self._columns = None if columns is None else tuple(columns)

    @cached_property
    def found(self) -> FoundFiles:
        return find_files(Path(self._source.path), self._source.format)

    def check(self) -> None:
        for name, format in self.found.read:
            next(self._records(name, format), None)

    def fetch(self) -> None:
        """Nothing: the files are local."""

    def digests(self) -> Mapping[str, str]:
        return {storable(name): file_digest(self.found.root / name) for name, _ in self.found.read}

    def records(self) -> Iterator[Record]:
        """All rows; in a folder or glob, a file that cannot be read as a whole is one record with its problem."""
        for name, format in self.found.read:
            yield from self._records(name, format)

    def columns(self) -> dict[Path, list[str] | None]:
        return {self.found.root / name: self._columns_in(name, format) for name, format in self.found.read}

    def notes(self) -> list[str]:
        unknown = [
            f"{storable(name)}: passed over, its ending is not a known format" for name in self.found.passed_over
        ]
        names = (name for name, _ in self.found.read)
        return unknown + [f"{storable(name)}: empty" for name in names if not (self.found.root / name).stat().st_size]

    def _records(self, name: str, format: FileFormat) -> Iterator[Record]:
        path, label = self.found.root / name, self._label(name)
        try:
            yield from read_file(path, format, name=label, max_field_bytes=self._most, columns=self._columns)
        except SourceError as error:
            if self._is_single or _is_closed(error):
                raise
            yield Record(label, 1, None, "", f"unreadable file: {storable(error.what)}")

    def _columns_in(self, name: str, format: FileFormat) -> list[str] | None:
        try:
            return columns_in(self.found.root / name, format, self._most)
        except SourceError as error:
            if self._is_single or _is_closed(error):
                raise
            return None

    @property
    def _is_single(self) -> bool:
        return Path(self._source.path).is_file()

    def _label(self, name: str) -> str:
        name = storable(name)
        if self._source.name is None:
            return name
        return self._source.name if self._is_single else f"{self._source.name}/{name}"


def find_files(path: Path, format: FileFormat | None = None) -> FoundFiles:
    """The files of a path, folder or glob, sorted by path, without hidden ones; ``format`` None: by ending."""
    if path.is_file():
        root, names = path.parent, [path.name]
    elif path.is_dir():
        root, names = path, sorted(_below(path))
    else:
        root, pattern = _split(path)
        names = sorted(_matching(root, pattern))
    if not names:
        what = "The folder contains no file" if path.is_dir() else "The source file does not exist"
        raise SourceError(what, where=str(path), remedy="correct collect.sources in the recipe")
    formats = {name: format or format_of(root / name) for name in names}
    read = tuple((name, known) for name, known in formats.items() if known is not None)
    passed_over = tuple(name for name, known in formats.items() if known is None)
    if not read:
        what = f"Cannot tell the format of a {Path(passed_over[0]).suffix or 'nameless'} file"
        remedy = (
            f"state it as the source's format; known endings are {', '.join(ENDINGS)}, and {', '.join(PACKED)} behind"
        )
        raise SourceError(what, where=storable(str(root / passed_over[0])), remedy=remedy)
    return FoundFiles(root, read, passed_over)


def _is_closed(error: SourceError) -> bool:
    """Whether the system denied access: the content is not at fault, and the next night may read it."""
    return isinstance(error.__cause__, OSError) and error.__cause__.errno is not None


def _below(root: Path) -> Iterator[str]:
    for folder, folders, files in os.walk(root, onerror=_refuse_unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for path in (Path(folder, name) for name in (*folders, *files) if not name.startswith(".")):
            _require_inside(path, root)
            if path.is_file():
                yield path.relative_to(root).as_posix()


def _split(pattern: Path) -> tuple[Path, Path]:
    parts = pattern.parts
    first = next((number for number, part in enumerate(parts) if WILDCARDS & set(part)), len(parts) - 1)
    if ".." in parts[first:]:
        raise SourceError(
            "A pattern cannot contain .. after its first wildcard", where=str(pattern), remedy="write .. before it"
        )
    return Path(*parts[:first]), Path(*parts[first:])


def _matching(root: Path, pattern: Path) -> Iterator[str]:
    for path in root.glob(str(pattern)):
        relative = path.relative_to(root)
        if path.is_file() and not any(part.startswith(".") for part in relative.parts):
            _require_inside(path, root)
            yield relative.as_posix()


def _require_inside(path: Path, root: Path) -> None:
    if not path.resolve().is_relative_to(root.resolve()):
        what = "A link points outside the source's folder"
        remedy = "remove the link, copy its target, or name the target as a separate source"
        raise SourceError(what, where=storable(f"{path} -> {path.resolve()}"), remedy=remedy)


def _refuse_unreadable(error: OSError) -> None:
    raise SourceError(f"A folder cannot be read: {error.strerror}", where=storable(str(error.filename))) from error
