"""Progress of the whole stage: one bar and one share for all calls, attempts, blocks and judges."""

from __future__ import annotations

import time

from tasks.core.answer_store import Answer
from tasks.core.progress import Advance, time_left
from tasks.core.stage import OnProgress
from tasks.generate.budget import Budget
from tasks.generate.early_stop import Failures
from tasks.generate.stats import Meter

SHOW_SECONDS = 0.2


class Course:
    """Reports progress a few times a second at most.

    The share refers to ``total`` rows, processed block by block. Within a block, writing and each judge are phases of
    equal weight. A second attempt takes time and adds nothing to the share.
    """

    def __init__(
        self,
        title: str,
        total: int,
        phases: int,
        budget: Budget,
        meter: Meter,
        failures: Failures,
        tell: OnProgress,
        advance: Advance,
    ) -> None:
        self._title, self._total, self._phases = title, max(1, total), phases
        self._budget, self._meter, self._tell, self._advance, self._failures = budget, meter, tell, advance, failures
        self._before, self._shown = meter.seconds, time.monotonic()
        self._what, self._attempt, self._wanted, self._answered = title, 1, 0, 0
        self._tokens, self._given = 0, 0.0
        self.block(0, total)

    def block(self, done: int, size: int) -> None:
        self._done, self._size = done, size
        self._whats: list[str] = []

    def call(self, what: str, attempt: int, wanted: int, found: int) -> None:
        """A call begins: ``wanted`` answers are needed, ``found`` of them are stored."""
        before = self._share() if self._whats else self._done / self._total
        if what not in self._whats:
            self._whats.append(what)
        self._what, self._attempt, self._wanted, self._answered = what, attempt, wanted, found
        self._given += max(0.0, self._share() - before)

    def answered(self, answer: Answer) -> None:
        self._answered += 1
        self._tokens += answer.completion_tokens
        now, share = time.monotonic(), self._share()
        if now - self._shown < SHOW_SECONDS and share < 1:
            return
        self._shown = now
        seconds = max(self._meter.seconds - self._before, 1e-9)
        done = int(share * self._total)
        rows = f"{self._budget.rows} rows, " if self._budget.rows else ""
        note = f"{self._tokens / seconds:.0f} tokens/s, {rows}{self._failures.broken} rejects"
        self._advance(done, note if self._what == self._title else f"{self._what}, {note}")
        # Stored answers took no time and do not predict the remaining time.
        gained = int(max(0.0, share - self._given) * self._total)
        left = time_left(seconds, gained, gained + self._total - done)
        self._tell(share, f"{self._what}: {done} of {self._total}, {note}, {left}")

    def _share(self) -> float:
        of_call = self._answered / self._wanted if self._wanted and self._attempt == 1 else 1.0
        phase = self._whats.index(self._what) if self._what in self._whats else 0
        of_block = min(1.0, (phase + of_call) / self._phases)
        return min(1.0, max((self._done + self._size * of_block) / self._total, self._budget.share_of_rows))
