"""``retune contracts diff``: what a changed contract breaks, and whether its version says so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retune.contracts.compare import Audience, Change, Version, compare
from retune.contracts.lint import SEMVER
from retune.contracts.uses import ANY_RECIPE, described_columns
from retune.lint_report import from_here
from retune.revisions import CONTRACT, Committed, committed
from tasks.core.errors import ContractError
from tasks.validate.contracts.compiler import compile_table
from tasks.validate.contracts.contract import read_contract
from tasks.validate.contracts.odcs import ContractFile, read_file

LEVELS: Mapping[Audience, int] = {"consumers": 0, "producers": 1, "nobody": 2}
"""Which number of MAJOR.MINOR.PATCH must rise."""
NAMES = ("major", "minor", "patch")


@dataclass(frozen=True)
class ContractDiff:
    """Two versions of a contract.

    Attributes:
        contract: the new one's file.
        against: what it was compared with.
        old_version, new_version: as the files say; the old one is None where there is none.
        changes: what breaks consumers first.
    """

    contract: str
    against: str
    old_version: str | None
    new_version: str
    changes: tuple[Change, ...]

    @property
    def due(self) -> str | None:
        """The least version that says enough of what changed; None where nothing did, or it cannot be told."""
        if self.old_version is None or not self.changes or not SEMVER.fullmatch(self.old_version):
            return None
        numbers = _numbers(self.old_version)
        level = min(LEVELS[change.concerns] for change in self.changes)
        if numbers[0] == 0:
            level = max(level, 1)  # before 1.0.0 the minor number says what breaks: https://semver.org/#spec-item-4
        return ".".join(map(str, [*numbers[:level], numbers[level] + 1, 0, 0][:3]))

    @property
    def problem(self) -> str | None:
        """What is wrong with the version, or None."""
        if self.old_version is None:
            return None
        for version in (self.old_version, self.new_version):
            if not SEMVER.fullmatch(version) and self.changes:
                return f"the version {version!r} is not MAJOR.MINOR.PATCH"
        if self.due is not None and _numbers(self.new_version) < _numbers(self.due):
            level = NAMES[next(at for at, pair in enumerate(zip(_numbers(self.old_version), _numbers(self.due),
                                                                strict=True)) if pair[0] != pair[1])]  # fmt: skip
            return f"the version {self.new_version} is too low: {self.due} is due, as what changed is {level}"
        return None

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "contract": self.contract,
            "against": self.against,
            "old_version": self.old_version,
            "new_version": self.new_version,
            "due": self.due,
            "problem": self.problem,
            "changes": [change.as_json() for change in self.changes],
        }

    def as_text(self) -> str:
        """For people: a line a change, and the verdict on the version."""
        lines = [f"{self.contract} against {self.against}"]
        for change in self.changes:
            lines.append(f"{SAID[change.concerns]:<18}{change.what}\n{'':<18}{change.where}")
        return "\n".join([*lines, self._verdict()])

    def _verdict(self) -> str:
        if self.old_version is None:
            return "a new contract: nobody depends on it yet"
        if self.problem:
            return f"error: {self.problem}"
        if not self.changes:
            return "nothing that it promises or says changed"
        return f"the version says enough: {self.old_version} became {self.new_version}, and {self.due} was due"


SAID: Mapping[Audience, str] = {
    "consumers": "breaks consumers",
    "producers": "breaks producers",
    "nobody": "breaks nobody",
}


def diff_against(path: Path, revision: str) -> ContractDiff:
    """Compare a contract with itself at a Git revision.

    Raises:
        ContractError: either cannot be read, the file lies in no Git repository, or there is no such revision.
    """
    new = _version(path)
    with committed(path, revision, CONTRACT) as found:
        against = f"{found.revision}, “{found.subject}”"
        if not found.path.is_file():
            return ContractDiff(from_here(path), against, None, new.file.document.version or "", ())
        with _as_known(found):
            old = _earlier(found.path)
        changes = tuple(Change(change.concerns, change.what, found.where(change.where)) for change in compare(old, new))
        return _diff(path, against, old, new, changes)


def diff_files(old_path: Path, new_path: Path) -> ContractDiff:
    """Compare two files.

    Raises:
        ContractError: either cannot be read.
    """
    old, new = _earlier(old_path), _version(new_path)
    return _diff(new_path, from_here(old_path), old, new, compare(old, new))


def _diff(path: Path, against: str, old: Version, new: Version, changes: tuple[Change, ...]) -> ContractDiff:
    versions = (old.file.document.version or "", new.file.document.version or "")
    shown = tuple(Change(change.concerns, change.what, from_here(change.where)) for change in changes)
    return ContractDiff(from_here(path), against, *versions, shown)


def _version(path: Path) -> Version:
    """A contract with the rules of each of its tables, whatever columns there are.

    Raises:
        ContractError: it is no good.
    """
    file = _read(path)
    columns = described_columns(file)
    tables = [table.name for table in file.document.schema_ or []]
    return Version(file, tuple(read_contract(path, columns, table=name, context=ANY_RECIPE).rules for name in tables))


def _earlier(path: Path) -> Version:
    """The same of an earlier version, without the rules that are no good: they promised nothing.

    Raises:
        ContractError: it is no contract.
    """
    file = _read(path)
    columns = described_columns(file)
    tables = [table.name for table in file.document.schema_ or []]
    compiled = [compile_table(file, columns, name, ANY_RECIPE)[0] for name in tables]
    return Version(file, tuple(table.rules if table else () for table in compiled))


def _read(path: Path) -> ContractFile:
    file, findings = read_file(path)
    if file is None:
        raise ContractError(findings[0].what, where=f"{path}:{findings[0].line}", remedy=findings[0].remedy)
    return file


@contextmanager
def _as_known(revision: Committed) -> Iterator[None]:
    """Name the scratch file as a reader knows it, where it cannot be read."""
    try:
        yield
    except ContractError as error:
        remedy = "name a revision in which it can be read, with --against"
        what = f"The committed contract cannot be read: {error.what}"
        raise ContractError(what, where=revision.where(error.where), remedy=remedy) from error


def _numbers(version: str) -> tuple[int, int, int]:
    major, minor, patch = map(int, version.split("."))
    return major, minor, patch
