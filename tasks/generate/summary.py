"""The summary of the stage: balanced counts, and details for the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tasks.core.artifacts import Summary
from tasks.core.details import GenerateDetails
from tasks.generate.writing import Outcome
from tasks.generate.written_rows import Row

SAMPLES = 8


@dataclass
class Tally:
    """Counts block by block.

    ``asked`` counts planned rows that were requested or could not be rendered; one may give several rows.
    ``no_second_chance`` counts rejected rows that a limit kept from a retry.
    """

    kept: int = 0
    lost: int = 0
    asked: int = 0
    no_second_chance: int = 0
    rules: Counter[str] = field(default_factory=Counter)
    asked_by_prompt: Counter[str] = field(default_factory=Counter)
    kept_by_prompt: Counter[str] = field(default_factory=Counter)
    asked_by_attempt: Counter[int] = field(default_factory=Counter)
    kept_by_attempt: Counter[int] = field(default_factory=Counter)
    samples: list[dict[str, str]] = field(default_factory=list)

    @property
    def losses(self) -> str:
        """The most frequent reasons of lost rows, as a suffix for a message."""
        told = ", ".join(f"{count} to {rule}" for rule, count in self.rules.most_common())
        return f"; {self.lost} were lost: {told}" if self.lost else ""

    def count(self, outcome: Outcome, kept: Sequence[Row], lost: Sequence[Row]) -> None:
        self.kept += len(kept)
        self.lost += len(lost)
        self.asked += outcome.asked.total()
        self.no_second_chance += outcome.no_second_chance
        self.asked_by_prompt += outcome.asked
        self.asked_by_attempt += outcome.asked_by_attempt
        self.kept_by_prompt.update(row["prompt"] for row in kept)
        self.kept_by_attempt.update(row["attempts"] for row in kept)
        self.rules.update(row["rule"].split(":")[0] for row in lost)
        self.samples += _samples(kept, SAMPLES - len(self.samples))

    def summary(self, details: Mapping[str, Any], *, partial: bool) -> Summary:
        """The stage's summary; every row of an answer was accepted or quarantined."""
        mine = {
            "rules": dict(self.rules),
            "by_prompt": {
                name: {"requests": count, "kept": self.kept_by_prompt[name]}
                for name, count in self.asked_by_prompt.items()
            },
            "attempts": {
                str(attempt): {"answers": count, "kept": self.kept_by_attempt[attempt]}
                for attempt, count in sorted(self.asked_by_attempt.items())
            },
            "samples": self.samples,
        }
        found = GenerateDetails(**mine, **details)
        return Summary(self.kept + self.lost, self.kept, self.lost, details=found, partial=partial)


def _samples(rows: Sequence[Row], count: int) -> list[dict[str, str]]:
    """A few rows spread over a block; documents are in hash order, so that any block is representative."""
    step = max(1, len(rows) // count) if count else 1
    return [
        {"prompt": row["prompt"], "input": row["messages"][-2]["content"], "output": row["messages"][-1]["content"]}
        for row in rows[::step][:count]
    ]
