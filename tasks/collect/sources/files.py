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
from tasks.core.errors import SourceError
from tasks.core.files import file_digest, storable

WILDCARDS = frozenset("*?[")


@dataclass(frozen=True)
class FoundFiles:
    """The files that a path names.

    Attributes:
        root: the folder below which they lie.
        read: (path below the root, format), sorted by path; a name that is no UTF-8 is as the system gives it.
        passed_over: paths below the root of files whose ending tells no format.
    """

    root: Path
    read: tuple[tuple[str, FileFormat], ...]
    passed_over: tuple[str, ...]


class FileReader:
    """Reads the files of a source in the order of their paths.

    Args:
        columns: those that matter, with dots into nested values; others are left out of the records. None: all.
    """

    def __init__(self, source: FileSource, settings: ReaderSettings, columns: Iterable[str] | None = None) -> None:
        self._source, self._most = source, settings.max_field_bytes
        self._columns = None if columns is None else tuple(columns)

    @cached_property
    def found(self) -> FoundFiles:
        """Its files, looked for once.

        Raises:
            SourceError: as ``find_files``.
        """
        return find_files(Path(self._source.path), self._source.format)

    def check(self) -> None:
        """Open every file and read its first row.

        Raises:
            SourceError: as ``find_files``; of a file that is named by itself, as ``read_file``.
        """
        for name, format in self.found.read:
            next(self._records(name, format), None)

    def fetch(self) -> None:
        """Nothing: the files are here."""

    def digests(self) -> Mapping[str, str]:
        """SHA-256 of every file, by its path below the source's folder."""
        return {storable(name): file_digest(self.found.root / name) for name, _ in self.found.read}

    def records(self) -> Iterator[Record]:
        """All rows; of several files, one that cannot be read as a whole is a record with its problem.

        Raises:
            SourceError: as ``find_files``; a file cannot be opened; or, named by itself, cannot be read.
        """
        for name, format in self.found.read:
            yield from self._records(name, format)

    def columns(self) -> dict[Path, list[str] | None]:
        """The columns of every file; None for a file without a readable row at its head."""
        return {self.found.root / name: self._columns_in(name, format) for name, format in self.found.read}

    def notes(self) -> list[str]:
        """What was found and gives no rows: files of unknown format, and empty ones."""
        unknown = [f"{storable(name)}: passed over, its ending tells no format" for name in self.found.passed_over]
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
    """The files that a path, a folder or a glob names; hidden ones are left out, the others sorted by path.

    Args:
        format: of all of them. None: each by its ending; the others are passed over.

    Raises:
        SourceError: there are none, none has a known format, or one lies outside the folder.
    """
    if path.is_file():
        root, names = path.parent, [path.name]
    elif path.is_dir():
        root, names = path, sorted(_below(path))
    else:
        root, pattern = _split(path)
        names = sorted(_matching(root, pattern))
    if not names:
        raise SourceError(
            "The folder holds no file" if path.is_dir() else "The source file does not exist",
            where=str(path),
            remedy="correct collect.sources in the recipe",
        )
    formats = {name: format or format_of(root / name) for name in names}
    read = tuple((name, known) for name, known in formats.items() if known is not None)
    passed_over = tuple(name for name, known in formats.items() if known is None)
    if not read:
        raise SourceError(
            f"Cannot tell the format of a {Path(passed_over[0]).suffix or 'nameless'} file",
            where=storable(str(root / passed_over[0])),
            remedy=f"state it as the source's format; known endings are {', '.join(ENDINGS)}, and .gz or .zst behind",
        )
    return FoundFiles(root, read, passed_over)


def _is_closed(error: SourceError) -> bool:
    """Whether the system did not let a file be read: no fault of its content, which the next night may see."""
    return isinstance(error.__cause__, OSError) and error.__cause__.errno is not None


def _below(root: Path) -> Iterator[str]:
    for folder, folders, files in os.walk(root, onerror=_refuse_unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for path in (Path(folder, name) for name in (*folders, *files) if not name.startswith(".")):
            _require_inside(path, root)
            if path.is_file():
                yield path.relative_to(root).as_posix()


def _split(pattern: Path) -> tuple[Path, Path]:
    """A glob as the folder before its first wildcard, and the rest."""
    parts = pattern.parts
    first = next((number for number, part in enumerate(parts) if WILDCARDS & set(part)), len(parts) - 1)
    if ".." in parts[first:]:
        raise SourceError(
            "A pattern cannot go up behind its first wildcard", where=str(pattern), remedy="write .. before it"
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
        raise SourceError(
            "A link leads out of the source's folder",
            where=storable(f"{path} -> {path.resolve()}"),
            remedy="remove the link, copy what it leads to, or name its target as a source of its own",
        )


def _refuse_unreadable(error: OSError) -> None:
    raise SourceError(f"A folder cannot be read: {error.strerror}", where=storable(str(error.filename))) from error
