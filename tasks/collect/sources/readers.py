"""The reader of every source of a recipe."""

from __future__ import annotations

from collections.abc import Iterable

from tasks.collect.config import (
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


def needed_columns(config: CollectConfig, source: SourceSection) -> list[str]:
    """The columns that the recipe names for a source: mapped ones, the id, filters and the licence."""
    single = [config.id_column_of(source), source.licence_column]
    named = [*config.columns_of(source).values(), *filter(None, single), *config.where_of(source)]
    return list(dict.fromkeys(named))


def resolved(source: Source) -> FileSource | HubSource | SqlSource | HttpSource | ObjectSource:
    """The source itself; one that a ``dataset_info.json`` describes as the file source that it stands for.

    Raises:
        SourceError: the ``dataset_info.json`` is missing or does not describe the data set.
    """
    if not isinstance(source, DatasetInfoSource):
        return source
    from tasks.collect.dataset_info import resolve

    return resolve(source)


def readers_of(config: CollectConfig, settings: ReaderSettings) -> list[Reader]:
    """A reader for each source, in the recipe's order; where columns are mapped, only those that are named are read.

    Raises:
        SourceError: as ``resolved``.
    """
    readers = []
    for source in map(resolved, config.sources):
        readers.append(reader_of(source, settings, _read_columns(config, source)))
    return readers


def _read_columns(config: CollectConfig, source: SourceSection) -> list[str] | None:
    """The columns to read: all (None) where a form has columns of its own."""
    if not config.columns_of(source) or source.form not in (None, "columns"):
        return None
    return [*needed_columns(config, source), *filter(None, (source.layout.system, source.layout.tools))]


def reader_of(source: Source, settings: ReaderSettings, columns: Iterable[str] | None = None) -> Reader:
    """The reader of a source; modules for databases, HTTP and object stores are loaded where one is named.

    Args:
        columns: those that matter, with dots into nested values; others are left out of the records. None: all.
            Sources that are fetched give all.

    Raises:
        SourceError: as ``resolved``.
    """
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
