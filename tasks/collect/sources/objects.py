"""Fetch the files of an object store, by fsspec URL, into a snapshot; unchanged objects are not downloaded again.

Only object stores are supported: protocols that reach local files, or the web past the address rule of ``url`` sources,
are refused, and so are chained URLs (``::``). Endpoints are exempt from that rule: stores are often on private
addresses.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import fsspec

from tasks.collect.config import FileFormat, ObjectSource
from tasks.collect.records import ReaderSettings, Record
from tasks.collect.sources.environment import Environment
from tasks.collect.sources.formats import format_of, read_file
from tasks.collect.sources.snapshots import Part, Snapshot, State
from tasks.collect.sources.unpack import PACKED
from tasks.core.errors import RetuneError, SourceError, SourceUnavailable
from tasks.core.files import digest_of, require_free_space

STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "oci")
AT_A_TIME = 32
"""Concurrent downloads."""
SECRET = re.compile(r"key|secret|token|password|credential|connection_string", re.IGNORECASE)
WILDCARDS = re.compile(r"[*?\[]")
FINGERPRINTS = ("ETag", "etag", "md5Hash", "LastModified", "last_modified", "updated", "mtime")
REFUSALS = ("NoCredentials", "PartialCredentials", "ParamValidation", "Unauthorized", "Forbidden", "Authentication")
"""Parts of error names that a retry cannot fix."""
KEPT = "data read before are kept"


class Found(NamedTuple):
    """An object of the store; the fingerprint changes with it, and is empty if the store gives none."""

    path: str
    name: str
    format: FileFormat
    size: int
    fingerprint: str


class ObjectReader:
    """Reads an ``object`` source in the order of names; ``fetched`` counts the objects, and the downloaded ones."""

    def __init__(self, source: ObjectSource, settings: ReaderSettings, columns: Iterable[str] | None = None) -> None:
        self.source, self.settings = source, settings
        self.columns = None if columns is None else tuple(columns)
        self.fetched: Mapping[str, int] = {}
        self._environment = Environment(source.object)
        identity = source.model_dump(include={"object", "format", "options"})
        self._snapshot = Snapshot(settings.snapshots, "object", identity, source.object)

    def check(self) -> None:
        protocol = self._url().partition("://")[0]
        if protocol not in STORES or "::" in self.source.object:
            remedy = f"use one of {', '.join(STORES)}; path: is for local files, url: for HTTP"
            raise SourceError(f"{protocol!r} is not a supported object store", where=self.source.object, remedy=remedy)
        self._options()
        try:
            fsspec.get_filesystem_class(protocol)
        except ImportError as error:
            what = f"The package for {protocol}:// is not installed: {error}"
            remedy = "install it in Retune's environment; s3:// comes with it"
            raise SourceError(what, where=self.source.object, remedy=remedy) from error

    def fetch(self) -> None:
        """Download new and changed objects; deleted ones leave the snapshot."""
        self.check()
        public = {name: value for name, value in self._options().items() if not SECRET.search(name)}
        origin = digest_of([self._url(), public])
        with self._snapshot.update(origin) as former, self._errors():
            protocol = self._url().partition("://")[0]
            store = fsspec.filesystem(protocol, skip_instance_cache=True, use_listings_cache=False, **self._options())
            found, unknown = self._find(store)
            held = {part.label: part for part in former.parts} if former else {}
            known = {name: part.details["fingerprint"] for name, part in held.items()}
            stale = [one for one in found if not one.fingerprint or known.get(one.name) != one.fingerprint]
            size = sum(one.size for one in stale)
            require_free_space(self._snapshot.folder, size, f"the objects of {self.source.object}")
            for start in range(0, len(stale), AT_A_TIME):
                held.update(self._download(store, stale[start : start + AT_A_TIME]))
            self.fetched = {"objects": len(found), "downloaded_objects": len(stale)}
            self._snapshot.commit(State(origin, tuple(held[one.name] for one in found), {"passed_over": unknown}))

    def digests(self) -> Mapping[str, str]:
        return {part.label: part.digest for part in self._snapshot.current().parts}

    def records(self) -> Iterator[Record]:
        """The rows of all objects; their source is the source's name and the object's name below the prefix."""
        limit, columns = self.settings.max_field_bytes, self.columns
        for part in self._snapshot.current().parts:
            path, format = self._snapshot.path(part), part.details["format"]
            yield from read_file(path, format, name=self._label(part.label), max_field_bytes=limit, columns=columns)

    def _label(self, name: str) -> str:
        if self.source.name is None:
            return name
        is_single = not (self.source.object.endswith("/") or WILDCARDS.search(self.source.object))
        return self.source.name if is_single else f"{self.source.name}/{name}"

    def notes(self) -> list[str]:
        unknown = self._snapshot.current().details["passed_over"]
        return [f"{name}: passed over, its ending is not a known format" for name in unknown]

    def _url(self) -> str:
        return self._environment.expand(self.source.object)

    def _options(self) -> dict[str, str | bool | int]:
        options = self.source.options.items()
        return {name: self._environment.expand(one) if isinstance(one, str) else one for name, one in options}

    def _find(self, store: Any) -> tuple[list[Found], list[str]]:
        url = self._url()
        listed = self._listed(store, url)
        path = store._strip_protocol(url)
        root = path if url.endswith("/") else WILDCARDS.split(path)[0].rpartition("/")[0]
        found, unknown = [], []
        for key, about in listed.items():
            if about["type"] != "file" or key.endswith("/"):  # consoles mark a folder with an empty object
                continue
            name = key.removeprefix(f"{root}/")  # the rest may begin with a slash: that is a different key
            format = self.source.format or format_of(Path(PurePosixPath(key).name))
            if format is None:
                unknown.append(name)
            else:
                found.append(Found(key, name, format, int(about.get("size") or 0), _mark(about)))
        if not found:
            none = f": none of {len(unknown)} objects has a known ending" if unknown else ""
            remedy = f"correct the URL (a prefix ends with /), or state the format; {KEPT}"
            raise SourceError(f"There is nothing to read{none}", where=self.source.object, remedy=remedy)
        return sorted(found, key=lambda one: one.name), sorted(unknown)

    def _listed(self, store: Any, url: str) -> dict[str, dict[str, Any]]:
        path = store._strip_protocol(url)
        if WILDCARDS.search(path):
            return dict(store.glob(path, detail=True))
        if url.endswith("/"):
            return dict(store.find(path, detail=True))
        about = store.info(path)
        if about["type"] == "directory":
            remedy = f"end the URL with / to read all below it; {KEPT}"
            raise SourceError("The URL names a prefix, not an object", where=self.source.object, remedy=remedy)
        return {path: about}

    def _download(self, store: Any, objects: Iterable[Found]) -> dict[str, Part]:
        files = {one: self._snapshot.new_file() for one in objects}
        store.get([one.path for one in files], [str(file) for file in files.values()])
        parts = {}
        for one, file in files.items():
            if file.stat().st_size != one.size:
                what = f"{one.name} changed while it was downloaded"
                remedy = f"try again when no other program writes there; {KEPT}"
                raise SourceUnavailable(what, where=self.source.object, remedy=remedy)
            suffix = PurePosixPath(one.name.lower()).suffix
            ending = f".{one.format}{suffix if suffix in PACKED else ''}"
            details = {"format": one.format, "fingerprint": one.fingerprint}
            parts[one.name] = self._snapshot.keep(file, one.name, ending, details)
        return parts

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Translate errors of the stores' packages, which share no base class; a retry helps with some."""
        try:
            yield
        except RetuneError:
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                raise
            answer = self._environment.hide(str(error).strip()) or type(error).__name__
            kinds = " ".join(kind.__name__ for kind in type(error).__mro__)
            if isinstance(error, FileNotFoundError):
                answer = f"there is no such bucket or object ({answer})"
            refused = isinstance(error, FileNotFoundError | PermissionError | ValueError | TypeError | ImportError)
            if refused or any(name in kinds for name in REFUSALS):
                what = f"The object store refused: {answer}"
                remedy = f"check the bucket, the credentials and the options; {KEPT}"
                raise SourceError(what, where=self.source.object, remedy=remedy) from error
            if isinstance(error, OSError) or "Connect" in kinds or "Timeout" in kinds:
                what = f"The object store does not answer: {answer}"
                remedy = f"check that the endpoint is up and reachable; {KEPT}"
                raise SourceUnavailable(what, where=self.source.object, remedy=remedy) from error
            raise


def _mark(about: Mapping[str, Any]) -> str:
    told = {name: str(about[name]) for name in FINGERPRINTS if about.get(name)}
    return digest_of([told, about.get("size")]) if told else ""
