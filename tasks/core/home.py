"""The project's own folder, and RETUNE_HOME with all state."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

PROJECT_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Home:
    """The folder with all state: artifacts, logs, unfinished work, the MLflow store and Prefect's database."""

    root: Path

    @classmethod
    def from_environment(cls) -> Home:
        """RETUNE_HOME, or ``.retune`` in the project."""
        return cls(Path(os.environ.get("RETUNE_HOME") or PROJECT_ROOT / ".retune").resolve())

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
    def tracking_uri(self) -> str:
        return f"sqlite:///{self.root / 'mlflow' / 'mlflow.db'}"
