"""The readers of a recipe's sources."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tasks.collect.config import (
    VERDICTS,
    CollectConfig,
    DatasetInfoSource,
    FileSource,
    HttpSource,
    HubSource,
    ObjectSource,
    Source,
    SourceSection,
    SqlSource,
)
from tasks.collect.records import Reader, ReaderSettings
from tasks.collect.sources.files import FileReader
from tasks.collect.sources.hub import HubReader
from tasks.core.errors import SourceError
from tasks.core.files import storable


def resolved(source: Source) -> FileSource | HubSource | SqlSource | HttpSource | ObjectSource:
    """The source; one from ``dataset_info.json`` becomes the source that its entry describes.

    Raises SourceError: the ``dataset_info.json`` is missing or does not describe the data set.
    """
    if not isinstance(source, DatasetInfoSource):
        return source
    from tasks.collect.dataset_info import resolve

    return resolve(source)


def readers_of(config: CollectConfig, settings: ReaderSettings) -> list[Reader]:
    """A reader for each source, in the recipe's order; with mapped columns, only named ones are read."""
    readers = []
    for source in map(resolved, config.sources):
        readers.append(reader_of(source, settings, _read_columns(config, source)))
    return readers


def _read_columns(config: CollectConfig, source: SourceSection) -> list[str] | None:
    if not config.columns_of(source) or source.form not in (None, "columns"):
        return None
    return [*config.named_columns(source), *source.layout.columns(), *VERDICTS]


def reader_of(source: Source, settings: ReaderSettings, columns: Iterable[str] | None = None) -> Reader:
    """The reader of a source; modules for databases, HTTP and object stores are imported on use."""
    match resolved(source):
        case HubSource() as source:
            return HubReader(source, settings, columns)
        case SqlSource() as source:
            from tasks.collect.sources.sql import SqlReader

            return SqlReader(source, settings, columns)
        case HttpSource() as source:
            from tasks.collect.sources.http import HttpReader

            return HttpReader(source, settings, columns)
        case ObjectSource() as source:
            from tasks.collect.sources.objects import ObjectReader

            return ObjectReader(source, settings, columns)
        case FileSource() as source:
            return FileReader(source, settings, columns)


def check_columns(config: CollectConfig, settings: ReaderSettings) -> None:
    """Check every source, and the named columns of local files and folders.

    A file without a readable first row passes: its rows go to quarantine, or it has none. Raises SourceError: a
    source's own check fails; or a column does not exist, with file, column and the existing columns.
    """
    for source, reader in zip(config.sources, readers_of(config, settings), strict=True):
        reader.check()
        if isinstance(reader, FileReader | HubReader):
            for path, existing in reader.columns().items():
                if existing is not None:
                    _require(config.named_columns(resolved(source)), existing, storable(str(path)))


def _require(columns: Sequence[str], existing: Sequence[str], where: str) -> None:
    for column in columns:
        if column not in existing and column.split(".")[0] not in existing:
            raise SourceError(
                f"The source has no column {column!r}",
                where=where,
                remedy=f"its columns are: {', '.join(existing)}; correct columns, id_column or where in the recipe,"
                " or name a file of another shape in a separate source (form: text for passages)",
            )
