"""The ledger of the holdout: every document that was ever held out, so that none is ever lost or trained on.

Which documents are held out is decided by a hash of their ids. What a hash cannot know is yesterday: a document that
has left its source, has other words now, or was set aside under another fraction. So each recipe keeps a ledger, and a
collection from changed sources starts from the one that the last collection left. One from unchanged sources starts
from what that one started from, so that its key is the same and nothing is done twice.
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
    """Whether a document is set aside: decided by a hash of its id alone, so that new data never moves one."""
    hashed = hashlib.sha256(f"{salt}:{document_id}".encode()).digest()
    return int.from_bytes(hashed[:8], "big") / 2**64 < fraction


@dataclass(frozen=True)
class Ledger:
    """A recipe's ledger: ``state.json`` and Parquet files of documents, named by their digests.

    Attributes:
        folder: below RETUNE_HOME, the recipe's own.
    """

    folder: Path

    def before(self, sources: str) -> str | None:
        """The digest of the ledger that a collection from these sources starts from.

        Args:
            sources: the digest of everything else that determines the collection.

        Raises:
            SourceError: the ledger's files are gone or damaged.
        """
        state = self._state()
        if state is None:
            return None
        digest = state["before"] if state["sources"] == sources else state["after"]
        if digest is not None and (not self.file(digest).is_file() or file_digest(self.file(digest)) != digest):
            raise SourceError(
                "The documents held out so far are gone or damaged",
                where=str(self.file(digest)),
                remedy="bring the file back from a backup; removing the folder draws a new holdout, from which the "
                "champion may have learned",
            )
        return digest

    def file(self, digest: str) -> Path:
        """The documents of a digest."""
        return self.folder / f"{digest}.parquet"

    def keep(self, ledger: Path, sources: str, before: str | None) -> None:
        """Take over the file of a collection's new ledger; the files of older ones are removed."""
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
            raise SourceError(
                f"The ledger of the holdout cannot be read: {error}",
                where=str(file),
                remedy="bring the file back from a backup",
            ) from error
