"""A request to stop, as SIGTERM makes it: while it trains, a training writes a checkpoint first."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

EXIT_STATUS = 128 + signal.SIGTERM


@dataclass
class StopRequest:
    """Whether somebody asked the process to stop.

    Attributes:
        requested: it was asked.
        waits: it stops at the end of a step; before and after training, at once.
    """

    requested: bool = False
    waits: bool = False

    @classmethod
    def on_sigterm(cls) -> StopRequest:
        """A request that SIGTERM makes from now on."""
        request = cls()
        signal.signal(signal.SIGTERM, request._ask)
        return request

    def _ask(self, *_: Any) -> None:
        self.requested = True
        if not self.waits:
            raise SystemExit(EXIT_STATUS)

    @contextlib.contextmanager
    def at_next_step(self) -> Iterator[None]:
        """While this is open, whoever trains looks at ``requested`` after each step."""
        self.waits = True
        try:
            yield
        finally:
            self.waits = False
