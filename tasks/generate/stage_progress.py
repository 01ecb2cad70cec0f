"""How far the stage is: one bar and one share for all its calls, attempts, blocks and judges."""

from __future__ import annotations

import time
from collections.abc import Callable

from tasks.core.answer_store import Answer
from tasks.core.progress import Advance, time_left
from tasks.core.stage import OnProgress
from tasks.generate.budget import Budget
from tasks.generate.stats import Meter

SHOW_SECONDS = 0.2


class Course:
    """Tells progress a few times a second at most, however many answers come.

    The share is that of ``total`` rows, of which one block after the other is worked on. Within a block, writing and
    each judge are phases of the same weight. A second attempt takes its share of time and adds nothing to the share.

    Args:
        title: of the bar.
        total: rows that are planned.
        phases: writing, and the judges.
        budget: how many rows stand, and how many are wanted.
        meter: time spent asking.
        tell: told the share and a line of text.
        advance: the bar.
        rejects: how many answers broke a rule so far.
    """

    def __init__(
        self,
        title: str,
        total: int,
        phases: int,
        *,
        budget: Budget,
        meter: Meter,
        tell: OnProgress,
        advance: Advance,
        rejects: Callable[[], int],
    ) -> None:
        self._title, self._total, self._phases = title, max(1, total), phases
        self._budget, self._meter, self._tell, self._advance, self._rejects = budget, meter, tell, advance, rejects
        self._before, self._shown = meter.seconds, time.monotonic()
        self._what, self._attempt, self._wanted, self._answered = title, 1, 0, 0
        self._tokens, self._given = 0, 0.0
        self.block(0, total)

    def block(self, done: int, size: int) -> None:
        """A block begins: so many rows are done, and so many are in it."""
        self._done, self._size = done, size
        self._whats: list[str] = []

    def call(self, what: str, attempt: int, wanted: int, found: int) -> None:
        """A call begins: so many answers are wanted, and so many of them were found in the store."""
        before = self._share() if self._whats else self._done / self._total
        if what not in self._whats:
            self._whats.append(what)
        self._what, self._attempt, self._wanted, self._answered = what, attempt, wanted, found
        self._given += max(0.0, self._share() - before)

    def answered(self, answer: Answer) -> None:
        """An answer came."""
        self._answered += 1
        self._tokens += answer.completion_tokens
        now, share = time.monotonic(), self._share()
        if now - self._shown < SHOW_SECONDS and share < 1:
            return
        self._shown = now
        seconds = max(self._meter.seconds - self._before, 1e-9)
        done = int(share * self._total)
        rows = f"{self._budget.rows} rows, " if self._budget.rows else ""
        note = f"{self._tokens / seconds:.0f} tokens/s, {rows}{self._rejects()} rejects"
        self._advance(done, note if self._what == self._title else f"{self._what}, {note}")
        # What was found in the store took no time, and says nothing of the time that the rest will take.
        gained = int(max(0.0, share - self._given) * self._total)
        left = time_left(seconds, gained, gained + self._total - done)
        self._tell(share, f"{self._what}: {done} of {self._total}, {note}, {left}")

    def _share(self) -> float:
        of_call = self._answered / self._wanted if self._wanted and self._attempt == 1 else 1.0
        phase = self._whats.index(self._what) if self._what in self._whats else 0
        of_block = min(1.0, (phase + of_call) / self._phases)
        return min(1.0, max((self._done + self._size * of_block) / self._total, self._budget.share_of_rows))
