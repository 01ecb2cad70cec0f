"""Limits of what a stage may still spend."""

from __future__ import annotations

import datetime
from pathlib import Path

from tasks.core.answer_store import AnswerStore
from tasks.core.files import write_text
from tasks.core.stage import StageContext
from tasks.generate.config import GenerateConfig, Limits

LONGEST_RESERVE = datetime.timedelta(minutes=2)
RESERVE = 0.25
"""Largest share of ``timeout_minutes`` reserved for answers in flight and for writing the rows."""


def local_time() -> datetime.datetime:
    return datetime.datetime.now().astimezone()


class Budget:
    """Counts tokens, rows and time against the limits of a recipe.

    ``started`` is when the run entered the stage (None: now), ``tokens`` are what it spent before, ``ends`` is when and
    why the stage is ended from outside, reserves included (None: never).
    """

    def __init__(
        self,
        limits: Limits,
        *,
        started: datetime.datetime | None = None,
        tokens: int = 0,
        ends: tuple[datetime.datetime, str] | None = None,
    ) -> None:
        self._limits, self._ends = limits, ends
        self._started = started or local_time()
        self._deadline = next_time_of_day(limits.deadline, self._started) if limits.deadline else None
        self.tokens = tokens
        self.rows = 0

    def reached(self) -> str | None:
        """The limit that was reached, such as ``deadline 04:30``, or None."""
        limits = self._limits
        if limits.rows is not None and self.rows >= limits.rows:
            return f"rows {limits.rows}"
        if limits.tokens is not None and self.tokens >= limits.tokens:
            return f"tokens {limits.tokens}"
        now = local_time()
        if limits.minutes is not None and now >= self._started + datetime.timedelta(minutes=limits.minutes):
            return f"minutes {limits.minutes:g}"
        if self._deadline is not None and now >= self._deadline:
            return f"deadline {limits.deadline}"
        if self._ends is not None and now >= self._ends[0]:
            return self._ends[1]
        return None

    @property
    def share_of_rows(self) -> float:
        """Rows so far as a share of ``limits.rows``; 0 without that limit."""
        return self.rows / self._limits.rows if self._limits.rows else 0.0


def budget_of(config: GenerateConfig, store: AnswerStore, context: StageContext) -> Budget:
    """The budget of a run; a retry of the stage continues with what is left.

    With a time limit it ends shortly before ``timeout_minutes``, which would end the stage without its rows; each try
    gets that time again.
    """
    limits = config.limits
    tokens = store.tokens_of(context.run_id) if limits.tokens is not None else 0
    if limits.minutes is None and limits.deadline is None:
        return Budget(limits, tokens=tokens)
    now, timeout = local_time(), datetime.timedelta(minutes=config.timeout_minutes)
    ends = now + timeout - min(LONGEST_RESERVE, RESERVE * timeout)
    started = _first_start(context.home.runs / context.run_id / "generate-started", now)
    return Budget(limits, started=started, tokens=tokens, ends=(ends, f"timeout_minutes {config.timeout_minutes:g}"))


def next_time_of_day(clock: str, now: datetime.datetime) -> datetime.datetime:
    """The next moment after ``now`` at which this machine's clock shows ``HH:MM``.

    A time that occurs twice counts both times; one that is skipped is as long after the change as it would have been.
    """
    at = datetime.time.fromisoformat(clock)
    today = now.astimezone().date()
    moments: list[datetime.datetime] = []
    for days in (0, 1):
        day = today + datetime.timedelta(days)
        both = [datetime.datetime.combine(day, at.replace(fold=fold)).astimezone() for fold in (0, 1)]
        # A skipped time has one reading before the change and one after it.
        moments += [moment for moment in both if moment.time() == at] or [max(both)]
    return min(moment for moment in moments if moment > now)


def _first_start(file: Path, now: datetime.datetime) -> datetime.datetime:
    try:
        return datetime.datetime.fromisoformat(file.read_text(encoding="utf-8").strip())
    except FileNotFoundError:
        write_text(file, f"{now.isoformat()}\n")
        return now
