"""The project's own folder, and RETUNE_HOME with all state."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tasks.core.errors import MachineError

PROJECT_ROOT = Path(__file__).resolve().parents[2]
LONGEST_BYTES = 400
"""SQLite opens files whose path has at most 512 bytes; Retune adds up to 80."""
DEFAULT_HOME = PROJECT_ROOT / ".retune"
RECIPE = "RETUNE_RECIPE"
"""The variable that names the recipe of a night to its stages and their workers, for the commands in messages."""


def recipe_of_night() -> str | None:
    """The recipe of the night in progress, as a command names it; None outside a night."""
    return os.environ.get(RECIPE)


@contextlib.contextmanager
def recipe_in_messages(recipe: str) -> Iterator[None]:
    """Name the recipe of the night in progress, for :func:`recipe_of_night` here and in child processes."""
    os.environ[RECIPE] = recipe
    try:
        yield
    finally:
        del os.environ[RECIPE]


@dataclass(frozen=True)
class Home:
    """The folder with all state: artifacts, logs, unfinished work, the MLflow store and Prefect's database."""

    root: Path

    @classmethod
    def from_environment(cls) -> Home:
        """RETUNE_HOME, or ``.retune`` in the project. Raises MachineError: no state can be kept under such a path."""
        named = Path(os.environ.get("RETUNE_HOME") or DEFAULT_HOME)
        try:
            root = named.resolve()
            problem = _problem_of(root)
        except (OSError, RuntimeError) as error:  # too long a name, a forbidden folder, links in a circle
            root, problem = named, str(error)
        if problem:
            raise MachineError(
                f"RETUNE_HOME cannot be this folder: {problem}",
                where=ascii(str(root)),
                remedy="name another folder: export RETUNE_HOME=/path/to/a/folder",
            )
        return cls(root)

    def command(self, *words: str, recipe: str | None = None) -> str:
        """A ``retune`` command for a message, to be pasted into a shell: it names this folder if it is not the default.

        ``recipe``: a name or path; None leaves the option out.
        """
        place = "" if self.root == DEFAULT_HOME.resolve() else f"RETUNE_HOME={shlex.quote(str(self.root))} "
        about = ["--recipe", recipe] if recipe else []
        return place + shlex.join(["retune", *words, *about])

    @property
    def artifacts(self) -> Path:
        return self.root / "artifacts"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def work(self) -> Path:
        """Unfinished work that the next run resumes: checkpoints."""
        return self.root / "work"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def answers(self) -> Path:
        """The teacher's answers, kept across nights."""
        return self.root / "answers.sqlite"

    @property
    def snapshots(self) -> Path:
        """Copies of remote sources, kept across nights."""
        return self.root / "snapshots"

    @property
    def holdouts(self) -> Path:
        """Ids of all documents ever held out, by recipe."""
        return self.root / "holdouts"

    @property
    def models(self) -> Path:
        """Public models that ``retune model get`` brought."""
        return self.root / "models"

    @property
    def reports(self) -> Path:
        """Pages made on request, such as the comparison of two templates."""
        return self.root / "reports"

    @property
    def registry_file(self) -> Path:
        """MLflow's database: runs, and the registry with the champion."""
        return self.root / "mlflow" / "mlflow.db"

    @property
    def tracking_uri(self) -> str:
        return f"sqlite:///{self.registry_file}"


def _problem_of(root: Path) -> str:
    """Why a path cannot hold Retune's state, or an empty text."""
    text = str(root)
    if "?" in text:
        return "its path contains ?, after which MLflow and Prefect read options of their databases"
    if not text.isprintable():
        return "its path contains control characters, or bytes that are not UTF-8"
    if len(os.fsencode(root)) > LONGEST_BYTES:
        return f"its path has {len(os.fsencode(root))} bytes, and databases can have {LONGEST_BYTES}"
    existing = next(path for path in (root, *root.parents) if path.exists())
    return "" if existing.is_dir() else f"{existing} is a file"
