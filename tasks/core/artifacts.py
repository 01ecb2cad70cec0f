"""The artifact store: immutable folders named by the key of what determines them.

``manifest.json`` is written last, so its presence marks a complete artifact; it holds the SHA-256 of every file. Files
in ``report/`` are for people: verified, but not part of the artifact's digest.
"""

from __future__ import annotations

import functools
import importlib.metadata
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tasks.core.files import (
    digest_of,
    folder_digests,
    read_json,
    readable_as_umask_allows,
    require_free_space,
    write_json,
)

if TYPE_CHECKING:
    from pydantic import BaseModel

MANIFEST = "manifest.json"
REPORT_FOLDER = "report"
FREE_SPACE = 200 * 2**20
Model = TypeVar("Model", bound="BaseModel")


@dataclass(frozen=True)
class ArtifactRef:
    """A reference to an artifact; stages exchange nothing else. ``key`` and ``digest`` are hexadecimal."""

    stage: str
    key: str
    path: str
    digest: str
    rows: int

    @property
    def folder(self) -> Path:
        return Path(self.path)

    def manifest(self) -> dict[str, Any]:
        manifest: dict[str, Any] = read_json(self.folder / MANIFEST)
        return manifest

    def details(self, model: type[Model]) -> Model:
        """What the stage reported about its work, as its model in ``tasks.core.details``."""
        return model.model_validate(self.manifest()["summary"]["details"])


@dataclass
class Summary:
    """What a stage reports about its work: ``rows_in`` is the sum of the four outcomes.

    ``details`` is the stage's model in ``tasks.core.details``. ``partial``: a limit cut the work short. This run uses
    what there is; the next one continues the work: :meth:`ArtifactStore.find` does not find the artifact.
    """

    rows_in: int = 0
    accepted: int = 0
    quarantined: int = 0
    duplicates: int = 0
    contaminated: int = 0
    details: Any = field(default_factory=dict)
    partial: bool = False

    def as_json(self) -> dict[str, Any]:
        """The summary as the manifest has it; details that were not set are left out."""
        details = self.details
        plain = details if isinstance(details, dict) else details.model_dump(exclude_unset=True)
        return {**asdict(self), "details": plain}

    def check_balance(self, stage: str) -> None:
        """Raise if a row was lost or counted twice: a defect of the stage, not of the data."""
        if self.rows_in != self.accepted + self.quarantined + self.duplicates + self.contaminated:
            raise AssertionError(f"{stage}: row counts do not balance: {asdict(self)}")


_version = functools.cache(importlib.metadata.version)  # a process keeps the libraries that it imported


@dataclass(frozen=True)
class StageKey:
    """The determinants of an artifact (rule 4 of the design), and their hash.

    Attributes:
        version: a number that the stage raises when its output changes.
        config: all parts of the recipe that the stage reads, resolved.
        files: digests of the prompt, contract, source and model files that it reads, by name.
        libraries: distributions whose version shapes the output.
    """

    stage: str
    version: int
    config: Mapping[str, Any]
    inputs: Sequence[ArtifactRef] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    libraries: Sequence[str] = ()

    def determinants(self) -> dict[str, Any]:
        """All that is hashed, as JSON-like data."""
        from pydantic import BaseModel  # here, because the report reads artifacts without it

        return {
            "stage": self.stage,
            "version": self.version,
            "config": {
                name: value.model_dump(mode="json") if isinstance(value, BaseModel) else value
                for name, value in self.config.items()
            },
            "inputs": [ref.digest for ref in self.inputs],
            "files": dict(self.files),
            "libraries": {name: _version(name) for name in self.libraries},
        }

    @property
    def hex(self) -> str:
        """The artifact's key: 32 hex digits of SHA-256."""
        return digest_of(self.determinants())[:32]


class ArtifactStore:
    """Finds, writes and verifies artifacts below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def find(self, key: StageKey) -> ArtifactRef | None:
        """The complete artifact of a key whose files have their recorded digests, or None."""
        folder = self.root / key.stage / key.hex
        if not (folder / MANIFEST).is_file():
            return None
        files = folder_digests(folder, skip=[MANIFEST])
        try:
            manifest = read_json(folder / MANIFEST)
            whole = manifest["files"] == files and manifest["digest"] == _content_digest(files)
            if not whole or manifest["summary"].get("partial"):
                return None
            return ArtifactRef(key.stage, key.hex, str(folder), manifest["digest"], manifest["summary"]["accepted"])
        except (ValueError, KeyError, TypeError):
            return None

    def write(self, key: StageKey, fill: Callable[[Path], Summary]) -> ArtifactRef:
        """Run ``fill`` on an empty folder and store the result as the artifact of ``key``, atomically."""
        require_free_space(self.root, FREE_SPACE, f"the {key.stage} stage")
        final = self.root / key.stage / key.hex
        temporary = final.with_name(f".{key.hex}.{os.getpid()}.tmp")
        for left_over in final.parent.glob(f".{key.hex}.*.tmp"):
            shutil.rmtree(left_over, ignore_errors=True)
        temporary.mkdir(parents=True)
        started = time.time()
        try:
            summary = fill(temporary)
            summary.check_balance(key.stage)
            readable_as_umask_allows(temporary)
            files = folder_digests(temporary)
            manifest: dict[str, Any] = {
                "stage": key.stage,
                "key": key.hex,
                "digest": _content_digest(files),
                "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "seconds": round(time.time() - started, 3),
                "determinants": key.determinants(),
                "inputs": [asdict(ref) for ref in key.inputs],
                "summary": summary.as_json(),
                "files": files,
            }
            write_json(temporary / MANIFEST, manifest)
            shutil.rmtree(final, ignore_errors=True)
            temporary.replace(final)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return ArtifactRef(key.stage, key.hex, str(final), manifest["digest"], summary.accepted)


def _content_digest(files: Mapping[str, str]) -> str:
    return digest_of({name: value for name, value in files.items() if not name.startswith(f"{REPORT_FOLDER}/")})
