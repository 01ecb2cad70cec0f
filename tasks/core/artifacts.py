"""The artifact store: immutable folders named by the key of what determines them.

An artifact is complete once ``manifest.json`` exists; it is written last and holds the SHA-256 of every file.
Files under ``report/`` are for people: verified, but not part of the artifact's digest.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from tasks.core.files import digest_of, folder_digests, require_free_space, write_json

MANIFEST = "manifest.json"
REPORT_FOLDER = "report"
FREE_SPACE = 200 * 2**20


@dataclass(frozen=True)
class ArtifactRef:
    """The only thing that travels between stages.

    Attributes:
        stage: the stage that wrote it.
        key: hash of what determines it, hex.
        path: its folder, absolute.
        digest: SHA-256 over the digests of its files, hex.
        rows: rows that flow on to the next stage.
    """

    stage: str
    key: str
    path: str
    digest: str
    rows: int

    @property
    def folder(self) -> Path:
        return Path(self.path)

    def manifest(self) -> dict[str, Any]:
        """The artifact's manifest."""
        manifest: dict[str, Any] = json.loads((self.folder / MANIFEST).read_text(encoding="utf-8"))
        return manifest


@dataclass
class Summary:
    """What a stage says about its work.

    ``rows_in`` = ``accepted`` + ``quarantined`` + ``duplicates`` + ``contaminated``, always.

    ``partial``: the work was cut short by a limit. The run goes on with what there is, and the next one goes on with
    the work: :meth:`ArtifactStore.find` does not find it.
    """

    rows_in: int = 0
    accepted: int = 0
    quarantined: int = 0
    duplicates: int = 0
    contaminated: int = 0
    details: dict[str, Any] = field(default_factory=dict)
    partial: bool = False

    def check_balance(self, stage: str) -> None:
        """Raise if a row was lost or counted twice: a defect of the stage, not of the data."""
        if self.rows_in != self.accepted + self.quarantined + self.duplicates + self.contaminated:
            raise AssertionError(f"{stage}: row counts do not balance: {asdict(self)}")


@dataclass(frozen=True)
class StageKey:
    """What determines an artifact (rule 4 of the design), and its hash.

    Attributes:
        stage: the stage's name.
        version: a number the stage raises when its output changes.
        config: the stage's resolved configuration and whatever else of the recipe it reads.
        inputs: artifacts it reads.
        files: digests of the prompt, contract, source and model files it reads, by name.
        libraries: distributions whose version shapes the output.
    """

    stage: str
    version: int
    config: Mapping[str, Any]
    inputs: Sequence[ArtifactRef] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    libraries: Sequence[str] = ()

    def determinants(self) -> dict[str, Any]:
        """Everything that is hashed, as JSON-like data."""
        plain = {
            name: value.model_dump(mode="json") if isinstance(value, BaseModel) else value
            for name, value in self.config.items()
        }
        return {
            "stage": self.stage,
            "version": self.version,
            "config": plain,
            "inputs": [ref.digest for ref in self.inputs],
            "files": dict(self.files),
            "libraries": {name: importlib.metadata.version(name) for name in self.libraries},
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
        """The whole artifact of a key, not cut short, whose files all have their recorded digests; or None."""
        folder = self.root / key.stage / key.hex
        if not (folder / MANIFEST).is_file():
            return None
        files = folder_digests(folder, skip=[MANIFEST])
        try:
            manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            if manifest["files"] != files or manifest["digest"] != _content_digest(files):
                return None
            if manifest["summary"].get("partial"):
                return None
            return ArtifactRef(key.stage, key.hex, str(folder), manifest["digest"], manifest["summary"]["accepted"])
        except (ValueError, KeyError, TypeError):
            return None

    def write(self, key: StageKey, fill: Callable[[Path], Summary]) -> ArtifactRef:
        """Run ``fill`` on an empty folder and make the result the artifact of ``key``, all or nothing."""
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
            files = folder_digests(temporary)
            manifest: dict[str, Any] = {
                "stage": key.stage,
                "key": key.hex,
                "digest": _content_digest(files),
                "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "seconds": round(time.time() - started, 3),
                "determinants": key.determinants(),
                "inputs": [asdict(ref) for ref in key.inputs],
                "summary": asdict(summary),
                "files": files,
            }
            write_json(temporary / MANIFEST, manifest)
            shutil.rmtree(final, ignore_errors=True)
            temporary.replace(final)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return ArtifactRef(key.stage, key.hex, str(final), manifest["digest"], summary.accepted)


def _content_digest(files: Mapping[str, str]) -> str:
    """An artifact's digest: of everything but its report."""
    return digest_of({name: value for name, value in files.items() if not name.startswith(f"{REPORT_FOLDER}/")})
