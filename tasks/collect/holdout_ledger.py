"""The ledger of the holdout: every document ever held out, so that none is lost or trained on.

A hash of its id decides whether a document is held out. The hash does not know the past: documents that left their
source, changed, or were held out under another fraction. So each recipe keeps a ledger. A collection from changed
sources starts from the ledger of the last collection; one from unchanged sources starts where that one started, so that
its key stays the same and nothing is done twice.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from tasks.core.errors import SourceError
from tasks.core.files import file_digest, write_json

STATE = "state.json"


def is_held_out(document_id: str, fraction: float, salt: str) -> bool:
    """Whether a hash of the id alone holds a document out, so that new data never moves one."""
    hashed = hashlib.sha256(f"{salt}:{document_id}".encode()).digest()
    return int.from_bytes(hashed[:8], "big") / 2**64 < fraction


@dataclass(frozen=True)
class Ledger:
    """A recipe's ledger: ``state.json`` and Parquet files of documents, named by their digests."""

    folder: Path

    def before(self, sources: str) -> str | None:
        """Digest of the ledger that a collection from these sources starts from.

        ``sources``: digest of everything else that determines the collection.
        """
        state = self._state()
        if state is None:
            return None
        digest = state["before"] if state["sources"] == sources else state["after"]
        if digest is not None and (not self.file(digest).is_file() or file_digest(self.file(digest)) != digest):
            raise SourceError(
                "The ledger of held-out documents is missing or damaged",
                where=str(self.file(digest)),
                remedy="restore the file from a backup; removing the folder draws a new holdout, from which the "
                "champion may have learned",
            )
        return digest

    def file(self, digest: str) -> Path:
        return self.folder / f"{digest}.parquet"

    def keep(self, ledger: Path, sources: str, before: str | None) -> None:
        """Adopt a collection's new ledger file and remove older ones."""
        digest = file_digest(ledger)
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / f".{digest}.tmp"
        shutil.copyfile(ledger, temporary)
        temporary.replace(self.file(digest))
        ledger.unlink()
        write_json(self.folder / STATE, {"sources": sources, "before": before, "after": digest})
        for file in self.folder.glob("*.parquet"):
            if file.stem not in (digest, before):
                file.unlink()

    def _state(self) -> dict[str, str | None] | None:
        file = self.folder / STATE
        if not file.is_file():
            return None
        try:
            state: dict[str, str | None] = json.loads(file.read_text(encoding="utf-8"))
            return {name: state[name] for name in ("sources", "before", "after")}
        except (ValueError, KeyError, TypeError) as error:
            what = f"The ledger of the holdout cannot be read: {error}"
            raise SourceError(what, where=str(file), remedy="restore the file from a backup") from error
