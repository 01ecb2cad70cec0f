"""``retune contracts diff``: what a changed contract breaks, and whether its new version is high enough."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from retune.contracts.compare import AUDIENCES, Change, Version, compare
from retune.contracts.lint import SEMVER
from retune.contracts.uses import ANY_RECIPE, described_columns
from retune.lint_report import from_here
from retune.revisions import CONTRACT, committed
from tasks.core.errors import ContractError
from tasks.core.tables import Columns
from tasks.validate.contracts.compiler import compile_table
from tasks.validate.contracts.contract import read_contract
from tasks.validate.contracts.odcs import ContractFile, read_file

NAMES = ("major", "minor", "patch")


@dataclass(frozen=True)
class ContractDiff:
    """Two versions of a contract (the old one None if there is none), and what changed, the worst first."""

    contract: str
    against: str
    old_version: str | None
    new_version: str
    changes: tuple[Change, ...]

    @property
    def due(self) -> str | None:
        """The lowest version that the changes allow; None without changes, or if the old version is not a number."""
        if self.old_version is None or not self.changes or not SEMVER.fullmatch(self.old_version):
            return None
        numbers = _numbers(self.old_version)
        level = min(AUDIENCES.index(change.concerns) for change in self.changes)
        if numbers[0] == 0:
            level = max(level, 1)  # before 1.0.0 the minor number rises: https://semver.org/#spec-item-4
        return ".".join(map(str, [*numbers[:level], numbers[level] + 1, 0, 0][:3]))

    @property
    def problem(self) -> str | None:
        if self.old_version is None:
            return None
        for version in (self.old_version, self.new_version):
            if not SEMVER.fullmatch(version) and self.changes:
                return f"the version {version!r} is not MAJOR.MINOR.PATCH"
        if self.due is not None and _numbers(self.new_version) < _numbers(self.due):
            pairs = zip(NAMES, _numbers(self.old_version), _numbers(self.due), strict=True)
            level = next(name for name, old, due in pairs if old != due)
            return f"the version {self.new_version} is too low: {self.due} is due, as the change is {level}"
        return None

    def as_json(self) -> dict[str, Any]:
        return {
            "contract": self.contract,
            "against": self.against,
            "old_version": self.old_version,
            "new_version": self.new_version,
            "due": self.due,
            "problem": self.problem,
            "changes": [asdict(change) for change in self.changes],
        }

    def as_text(self) -> str:
        lines = [f"{f'breaks {change.concerns}':<18}{change.what}\n{'':<18}{change.where}" for change in self.changes]
        return "\n".join([f"{self.contract} against {self.against}", *lines, self._verdict()])

    def _verdict(self) -> str:
        if self.old_version is None:
            return "a new contract: no consumer depends on it yet"
        if self.problem:
            return f"error: {self.problem}"
        if not self.changes:
            return "nothing changed"
        return f"the version is high enough: {self.old_version} became {self.new_version}, and {self.due} was due"


def diff_against(path: Path, revision: str) -> ContractDiff:
    """Compare a contract with itself at a Git revision; raises a ContractError if either cannot be read."""
    new = _version(path)
    with committed(path, revision, CONTRACT) as found:
        against = f"{found.revision}, “{found.subject}”"
        if not found.path.is_file():
            return ContractDiff(from_here(path), against, None, new.file.document.version or "", ())
        try:
            old = _earlier(found.path)
        except ContractError as error:
            remedy = "name a revision in which it can be read, with --against"
            what = f"The committed contract cannot be read: {error.what}"
            raise ContractError(what, where=found.where(error.where), remedy=remedy) from error
        changes = tuple(Change(change.concerns, change.what, found.where(change.where)) for change in compare(old, new))
        return _diff(path, against, old, new, changes)


def diff_files(old_path: Path, new_path: Path) -> ContractDiff:
    """Compare two files; raises a ContractError if either cannot be read."""
    old, new = _earlier(old_path), _version(new_path)
    return _diff(new_path, from_here(old_path), old, new, compare(old, new))


def _diff(path: Path, against: str, old: Version, new: Version, changes: tuple[Change, ...]) -> ContractDiff:
    versions = (old.file.document.version or "", new.file.document.version or "")
    shown = tuple(Change(change.concerns, change.what, from_here(change.where)) for change in changes)
    return ContractDiff(from_here(path), against, *versions, shown)


def _version(path: Path) -> Version:
    file, columns, tables = _read(path)
    return Version(file, tuple(read_contract(path, columns, table=name, context=ANY_RECIPE).rules for name in tables))


def _earlier(path: Path) -> Version:
    """The same of an earlier version, without its invalid rules, which promised nothing."""
    file, columns, tables = _read(path)
    compiled = [compile_table(file, columns, name, ANY_RECIPE)[0] for name in tables]
    return Version(file, tuple(table.rules if table else () for table in compiled))


def _read(path: Path) -> tuple[ContractFile, Columns, list[str]]:
    file, findings = read_file(path)
    if file is None:
        raise ContractError(findings[0].what, where=f"{path}:{findings[0].line}", remedy=findings[0].remedy)
    return file, described_columns(file), [table.name or "" for table in file.document.schema_ or []]


def _numbers(version: str) -> tuple[int, int, int]:
    major, minor, patch = map(int, version.split("."))
    return major, minor, patch
