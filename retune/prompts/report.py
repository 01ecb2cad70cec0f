"""The result of ``retune prompts diff``: the source of its text, its page and its JSON."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from retune.prompts.measure import Comparison
from retune.prompts.trials import Trial

Outcome = Literal["lost", "gained", "kept by both", "kept by neither"]
OUTCOMES: tuple[Outcome, ...] = ("lost", "gained", "kept by both", "kept by neither")


@dataclass(frozen=True)
class Sample:
    """The same request through both templates."""

    before: Trial
    after: Trial

    @property
    def outcome(self) -> Outcome:
        """What the edit changed for the row."""
        if self.before.kept:
            return "kept by both" if self.after.kept else "lost"
        return "gained" if self.after.kept else "kept by neither"


@dataclass(frozen=True)
class FileChange:
    """A file that differs, the template or a partial: its name in the folder, its unified diff without file names."""

    name: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class DiffReport:
    """Everything about one comparison.

    Attributes:
        revision, subject, date: of the commit: short hash, first line of its message, ISO 8601.
        documents: where the documents come from, in words.
        asked, reused: requests that were sent, including the judges'; requests with a stored answer.
        samples: every request of both, in the plan's order.
    """

    prompt: str
    path: str
    revision: str
    subject: str
    date: str
    recipe: str
    teacher: str
    documents: str
    document_count: int
    seed: int
    made: str
    asked: int
    reused: int
    comparison: Comparison
    samples: tuple[Sample, ...]
    changes: tuple[FileChange, ...]

    @property
    def by_outcome(self) -> list[Sample]:
        """The samples, first those whose outcome the edit changed."""
        return sorted(self.samples, key=lambda sample: OUTCOMES.index(sample.outcome))

    def as_json(self) -> dict[str, Any]:
        found = {"changed": True, **asdict(self)}
        for sample, written in zip(self.samples, found["samples"], strict=True):
            written["outcome"] = sample.outcome
        return found


def changed_lines(before: str, after: str) -> tuple[str, ...]:
    """Unified diff of two texts; empty where they are the same."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=3)
    return tuple(lines)[2:]


def outcome_counts(samples: Sequence[Sample]) -> list[tuple[Outcome, int]]:
    """How many samples had each outcome."""
    found = [sample.outcome for sample in samples]
    return [(outcome, found.count(outcome)) for outcome in OUTCOMES]
