"""A template as a Git revision has it, with everything beside it that it may include."""

from __future__ import annotations

import contextlib
import io
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tasks.core.errors import MachineError, PromptError

SHORT = 10


@dataclass(frozen=True)
class Committed:
    """A template's file at a revision.

    Attributes:
        path: a copy of the file, in a copy of its folder.
        revision: the commit's hash, shortened.
        subject: the first line of its message.
        date: when it was committed, ISO 8601 with its time zone.
    """

    path: Path
    revision: str
    subject: str
    date: str

    def where(self, text: str) -> str:
        """A place in the copy as a reader knows it: ``REVISION:name.md:3``."""
        return text.replace(f"{self.path.parent}/", f"{self.revision}:")


@contextlib.contextmanager
def committed(path: Path, revision: str) -> Iterator[Committed]:
    """The template of a working tree's file as a revision has it, for as long as the block runs.

    Args:
        path: the file; it need not be there any more.
        revision: whatever Git takes for a commit: ``HEAD``, ``main~3``, a tag, a hash.

    Raises:
        PromptError: the file lies in no Git repository, there is no such revision, or the file is not in it.
        MachineError: Git is not installed.
    """
    folder = path.resolve().parent
    try:
        top = Path(_git(folder, "rev-parse", "--show-toplevel").decode().strip())
    except subprocess.CalledProcessError as error:
        raise PromptError(
            "The template lies in no Git repository that can be read, so there is no committed one to compare it with"
            f" ({error.stderr.decode(errors='replace').strip()})",
            where=str(path),
            remedy="commit it first: git init, git add, git commit",
        ) from error
    try:
        commit = _git(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    except subprocess.CalledProcessError as error:
        raise PromptError(
            f"There is no revision {revision!r}",
            where=str(folder),
            remedy="name a commit, branch or tag with --against; git log shows those that touched the template",
        ) from error
    found = commit.decode().strip()
    with tempfile.TemporaryDirectory(prefix="retune-prompts-") as scratch:
        inside = "" if folder == top.resolve() else folder.relative_to(top.resolve()).as_posix()
        copy = _unpacked(top, f"{found}:{inside}", Path(scratch).resolve()) / path.name
        if not copy.is_file():
            raise PromptError(
                f"The template is not in {revision!r} ({found[:SHORT]})",
                where=str(path),
                remedy=f"a new template has nothing to compare with: try retune prompts preview {path.stem} --run",
            )
        date, subject = _git(folder, "log", "-1", "--format=%cI%n%s", found).decode(errors="replace").split("\n")[:2]
        yield Committed(copy, found[:SHORT], subject, date)


def _unpacked(top: Path, tree: str, scratch: Path) -> Path:
    """The files of a tree, in a folder of their own; empty where the revision has no such folder."""
    try:
        packed = _git(top, "archive", "--format=tar", tree)
    except subprocess.CalledProcessError:
        return scratch
    try:
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            archive.extractall(scratch, filter="data")
    except tarfile.FilterError as error:
        raise PromptError(f"The revision's folder of templates cannot be unpacked: {error}", where=tree) from error
    return scratch


def _git(folder: Path, *arguments: str) -> bytes:
    try:
        return subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, check=True).stdout
    except FileNotFoundError as error:
        if not folder.is_dir():
            raise PromptError("The folder does not exist", where=str(folder)) from error
        raise MachineError("Git is not installed, and diff needs it", remedy="install git") from error
