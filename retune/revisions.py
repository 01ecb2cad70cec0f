"""A file of a Git revision, with its folder, because it may refer to other files there."""

from __future__ import annotations

import contextlib
import io
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tasks.core.errors import ContractError, MachineError, PromptError, RetuneError

SHORT = 10


@dataclass(frozen=True)
class Kind:
    """What a file is: its ``noun`` for messages, and the ``error`` to raise if it cannot be read."""

    noun: str
    error: type[RetuneError]


TEMPLATE, CONTRACT = Kind("template", PromptError), Kind("contract", ContractError)


@dataclass(frozen=True)
class Committed:
    """A file at a revision.

    Attributes:
        path: a copy of the file, in a copy of its folder; missing if the revision does not have it.
        revision, subject: the commit's short hash and the first line of its message.
        date: of the commit, ISO 8601 with its time zone.
    """

    path: Path
    revision: str
    subject: str
    date: str

    def where(self, text: str) -> str:
        """A place in the copy, as ``REVISION:name.md:3``."""
        return text.replace(f"{self.path.parent}/", f"{self.revision}:")


@contextlib.contextmanager
def committed(path: Path, revision: str, kind: Kind) -> Iterator[Committed]:
    """A file of a working tree as a revision has it, while the block runs.

    ``path``: the file; it may have been removed. ``revision``: any name of a commit that Git takes: ``HEAD``,
    ``main~3``, a tag, a hash. Raises RetuneError: of the kind's type: the file is not in a Git repository, or there is
    no such revision; MachineError: Git is not installed.
    """
    folder = path.resolve().parent
    if not folder.is_dir():
        raise kind.error("The folder does not exist", where=str(folder))
    try:
        top = Path(_git(folder, "rev-parse", "--show-toplevel").decode().strip())
    except subprocess.CalledProcessError as error:
        raise kind.error(
            f"The {kind.noun} is not in a readable Git repository, so there is no committed one to compare with"
            f" ({error.stderr.decode(errors='replace').strip()})",
            where=str(path),
            remedy="commit it first: git init, git add, git commit",
        ) from error
    try:
        commit = _git(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    except subprocess.CalledProcessError as error:
        raise kind.error(
            f"There is no revision {revision!r}",
            where=str(folder),
            remedy=f"name a commit, branch or tag with --against; git log shows those that touched the {kind.noun}",
        ) from error
    found = commit.decode().strip()
    with tempfile.TemporaryDirectory(prefix="retune-revision-") as scratch:
        inside = "" if folder == top.resolve() else folder.relative_to(top.resolve()).as_posix()
        copy = _unpacked(top, f"{found}:{inside}", Path(scratch).resolve(), kind) / path.name
        date, subject = _git(folder, "log", "-1", "--format=%cI%n%s", found).decode(errors="replace").split("\n")[:2]
        yield Committed(copy, found[:SHORT], subject, date)


def revisions_of(folder: Path, most: int) -> list[str]:
    """The latest commits that changed something in a folder, newest first; none outside a repository."""
    try:
        found = _git(folder, "log", f"--max-count={most}", "--format=%H", "--", ".")
    except (subprocess.CalledProcessError, RetuneError):
        return []
    return found.decode().split()


def _unpacked(top: Path, tree: str, scratch: Path, kind: Kind) -> Path:
    try:
        packed = _git(top, "archive", "--format=tar", tree)
    except subprocess.CalledProcessError:
        return scratch
    try:
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            archive.extractall(scratch, filter="data")
    except tarfile.FilterError as error:
        what = f"The revision's folder of {kind.noun}s cannot be unpacked: {error}"
        raise kind.error(what, where=tree) from error
    return scratch


def _git(folder: Path, *arguments: str) -> bytes:
    try:
        return subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, check=True).stdout
    except FileNotFoundError as error:
        raise MachineError("Git is not installed, and diff needs it", remedy="install git") from error
