"""Data sets of the Hugging Face Hub, and local folders in its layout, streamed; their code is never run."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.collect.config import HubSource
from tasks.collect.records import ReaderSettings, Record
from tasks.collect.sources.features import ReadRow, read_record, row_reader, without_filled_keys
from tasks.collect.sources.row_values import Fit, Unfit, printed
from tasks.core.errors import SourceError, SourceUnavailable
from tasks.core.files import folder_digests

if TYPE_CHECKING:
    from datasets import DatasetBuilder

ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*)?")
COMMIT = re.compile(r"[0-9a-f]{40}")
REMEDY = "check the id, the subset, the split and the network; a folder in the hub's layout works offline"


class HubReader:
    def __init__(self, source: HubSource, settings: ReaderSettings, columns: Iterable[str] | None = None) -> None:
        self._source = source
        self._fit = Fit.of(settings.max_field_bytes, columns, nan_is_missing=True)
        self._where = f"{source.hub} (split {source.split})"

    def check(self) -> None:
        if self._source.is_local:
            next(self.records(), None)
        else:
            _require_id(self._source.hub)

    def fetch(self) -> None:
        """Ask the hub for the commit, unless the recipe pins one; rows are streamed later."""
        _ = self.commit

    @cached_property
    def commit(self) -> str | None:
        """The commit to read: the recipe's, or the newest of the branch or tag. None for a folder."""
        source = self._source
        if source.is_local:
            return None
        _require_id(source.hub)
        if source.revision and COMMIT.fullmatch(source.revision):
            return source.revision
        return _newest_commit(source.hub, source.revision)

    def digests(self) -> Mapping[str, str]:
        if self.commit is not None:
            return {"commit": self.commit}
        self._require_folder()
        return folder_digests(Path(self._source.hub))

    def records(self) -> Iterator[Record]:
        name = self._source.name or (Path(self._source.hub).name if self._source.is_local else self._source.hub)
        for line, (values, read) in enumerate(self._rows(), 1):
            try:
                yield read_record(name, line, values, read, self._fit)
            except Unfit as reason:
                yield Record(name, line, None, printed(values), str(reason))

    def columns(self) -> dict[Path, list[str] | None]:
        if not self._source.is_local:
            return {}
        first = next(self._rows(), None)
        return {Path(self._source.hub): None if first is None else list(first[0])}

    def _rows(self) -> Iterator[tuple[dict[str, Any], ReadRow]]:
        """Each row as the library gives it, and how to read it."""
        from datasets.exceptions import DatasetsError

        if self._source.is_local:
            self._require_folder()
        commit = self.commit
        try:
            builder = self._builder(commit)
            rows = builder.as_streaming_dataset(split=self._source.split)
            if self._fit.columns is not None and rows.column_names:
                rows = rows.select_columns([name for name in rows.column_names if name in self._fit.columns])
            read = row_reader(rows.features.arrow_schema, is_decoded=True) if rows.features else _without_filled_keys
            for values in rows:
                yield dict(values), read
        except SourceError:
            raise
        except (ConnectionError, TimeoutError) as error:
            raise SourceUnavailable(f"The hub stopped answering: {error}", where=self._where) from error
        except (OSError, ValueError, EOFError, zlib.error, DatasetsError, NotImplementedError) as error:
            raise SourceError(f"The data set cannot be loaded: {error}", where=self._where, remedy=REMEDY) from error

    def _builder(self, commit: str | None) -> DatasetBuilder:
        import datasets

        source = self._source
        builder = datasets.load_dataset_builder(source.hub, name=source.subset, revision=commit)
        files = [str(file) for files in (builder.config.data_files or {}).values() for file in files]
        if commit is None:
            folder = Path(source.hub).resolve()
            foreign = [file for file in files if not Path(file).resolve().is_relative_to(folder)]
        else:
            foreign = [file for file in files if not file.startswith(f"hf://datasets/{source.hub}@")]
        if foreign:
            what = "The data set refers to files outside itself"
            raise SourceError(what, where=f"{self._where}: {foreign[0]}", remedy="do not use it")
        return builder

    def _require_folder(self) -> None:
        if not Path(self._source.hub).is_dir():
            raise SourceError("The data set cannot be loaded: the folder does not exist", where=self._where)


def _without_filled_keys(values: dict[str, Any]) -> dict[str, Any]:
    return {name: without_filled_keys(value) for name, value in values.items()}


def _require_id(name: str) -> None:
    """Refuse an id other than ``owner/name`` or ``name``, so that an id is never a path."""
    if not ID.fullmatch(name) or ".." in name:
        what = f"{name!r} is neither the id of a data set nor a folder"
        raise SourceError(what, where="collect.sources", remedy="write owner/name, or the path of a folder")


def _newest_commit(name: str, revision: str | None) -> str:
    import httpx
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    where = f"{name} at {revision or 'its newest commit'}"
    try:
        commit = HfApi().dataset_info(name, revision=revision, timeout=30).sha
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        kind = SourceUnavailable if status == 429 or status >= 500 else SourceError
        raise kind(f"The hub refused the data set: {error}", where=where, remedy=REMEDY) from error
    except (httpx.HTTPError, OfflineModeIsEnabled, OSError) as error:
        remedy = "pin the data set with revision: <commit>, or use a local folder"
        raise SourceUnavailable(f"The hub cannot be reached: {error}", where=where, remedy=remedy) from error
    if commit is None:
        raise SourceError("The hub does not report its commit", where=where, remedy="pin it with revision:")
    return str(commit)
