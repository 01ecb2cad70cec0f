"""Adapt the number of concurrent requests to a server: grow while throughput grows, halve on overload."""

from __future__ import annotations

import time
from collections.abc import Callable

START = 128
FAST, GENTLE = 2.0, 1.25
WORTH = 0.1
NOTHING = 1.01
HOLD_WINDOWS = 8
WINDOW = 2
SHORTEST_WINDOW = 16
BUSY = 0.75


class Pace:
    """Additive increase, multiplicative decrease in spirit, with throughput as the reason to grow.

    Throughput is measured over twice as many answers as may be in flight, once the requests sent before a change have
    been answered. The limit doubles as long as each step gains a tenth of what it added; then it stays, and sometimes
    tries a quarter more. A step without gain is reverted. An overload (429, a timeout) halves the limit at once, but
    only once for all requests that were in flight together. The sender counts the requests in flight.
    """

    def __init__(self, most: int, now: Callable[[], float] = time.monotonic) -> None:
        self.limit = min(START, most)
        self.in_flight = 0
        self._most, self._now = most, now
        self._growth = FAST
        self._before: tuple[int, float] | None = None
        self._holding = 0
        self._halved_at = float("-inf")
        self._measure_after(self.limit)

    def answered(self, tokens: int) -> None:
        """Count an answer, before its request leaves ``in_flight``."""
        if self.in_flight < BUSY * self.limit:
            self._measure_after(0)  # too little work to measure the limit
            return
        if self._skip:
            self._skip -= 1
            self._since = self._now()
            return
        self._count += 1
        self._tokens += max(1, tokens)
        if self._count >= max(WINDOW * self.limit, SHORTEST_WINDOW):
            self._decide(self._tokens / max(self._now() - self._since, 1e-9))

    def overloaded(self, sent_at: float) -> None:
        """Halve the limit, unless the request was sent before the last time it was halved."""
        if sent_at < self._halved_at:
            return
        self._halved_at = self._now()
        self._growth, self._before, self._holding = GENTLE, None, 0
        self._set(self.limit // 2)

    def _decide(self, rate: float) -> None:
        if self._before is not None:
            limit, slower = self._before
            self._before = None
            if rate < NOTHING * slower:
                self._growth, self._holding = GENTLE, HOLD_WINDOWS
                self._set(limit)
                return
            if rate < slower * (1 + WORTH * (self.limit / limit - 1)):
                self._growth, self._holding = GENTLE, HOLD_WINDOWS
        if self._holding or self.limit == self._most:
            self._holding = max(0, self._holding - 1)
            self._measure_after(0)
            return
        self._before = (self.limit, rate)
        self._set(max(self.limit + 1, int(self.limit * self._growth)))

    def _set(self, limit: int) -> None:
        self.limit = max(1, min(limit, self._most))
        self._measure_after(self.limit)

    def _measure_after(self, answers: int) -> None:
        self._skip, self._count, self._tokens, self._since = answers, 0, 0, self._now()
