"""Progress of long work: a bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console

console = Console(stderr=True, highlight=False)
LINE_EVERY_SECONDS = 10.0

Advance = Callable[[int, str], None]


def say(text: str) -> None:
    """Print one line to standard error, as it is."""
    console.print(text, soft_wrap=True, markup=False)


@contextlib.contextmanager
def progress(what: str, total: int | None) -> Iterator[Advance]:
    """Show progress by the function ``(done, note)`` that it yields; ``total`` is None where it is unknown."""
    if console.is_terminal:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TimeRemainingColumn

        columns = (SpinnerColumn(), "{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, "{task.fields[note]}", console=console, transient=True) as bar:
            task = bar.add_task(f"  {what}", total=total, note="")
            yield lambda done, note: bar.update(task, completed=done, note=note)
        return
    last = time.monotonic()
    first: tuple[float, int] | None = None

    def print_line(done: int, note: str) -> None:
        nonlocal last, first
        now = time.monotonic()
        # The time left is measured from the first unit: what came before, such as a server's start, is not repeated.
        first = first or (now, done)
        if now - last >= LINE_EVERY_SECONDS:
            last = now
            count = f"{what} {done}" if total is None else f"{what} {done}/{total}"
            left = "" if total is None else time_left(now - first[0], done - first[1], total - first[1])
            say("  " + ", ".join(filter(None, [count, note, left])))

    yield print_line


def time_left(seconds: float, done: int, total: int) -> str:
    """Estimated time for the rest, such as ``2 min left``; empty while nothing is done."""
    if not done:
        return ""
    left = seconds / done * max(0, total - done)
    if left < 90:
        return f"{left:.0f} s left"
    return f"{left / 60:.0f} min left" if left < 5400 else f"{left / 3600:.1f} h left"
