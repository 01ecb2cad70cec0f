"""Whether the columns that a recipe names exist, seen in the heads of files before anything runs."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.collect.config import CollectConfig
from tasks.collect.records import ReaderSettings
from tasks.collect.sources.files import FileReader
from tasks.collect.sources.hub import HubReader
from tasks.collect.sources.readers import needed_columns, readers_of, resolved
from tasks.core.errors import SourceError
from tasks.core.files import storable


def check_columns(config: CollectConfig, settings: ReaderSettings) -> None:
    """Check every source, and look for the named columns in local files and folders.

    A file in whose head no row can be read is let through: its rows go to quarantine, or it has none.

    Raises:
        SourceError: a source's own check fails; or, naming file and column, with the columns that exist.
    """
    for source, reader in zip(config.sources, readers_of(config, settings), strict=True):
        reader.check()
        if isinstance(reader, FileReader | HubReader):
            for path, existing in reader.columns().items():
                if existing is not None:
                    _require(needed_columns(config, resolved(source)), existing, storable(str(path)))


def _require(columns: Sequence[str], existing: Sequence[str], where: str) -> None:
    for column in columns:
        if column not in existing and column.split(".")[0] not in existing:
            raise SourceError(
                f"The source has no column {column!r}",
                where=where,
                remedy=f"its columns are: {', '.join(existing)}; correct columns, id_column or where in the recipe,"
                " or name a file of another shape in a source of its own (form: text for passages)",
            )
