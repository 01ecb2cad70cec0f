"""Progress of long work: a bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

console = Console(stderr=True, highlight=False)
LINE_EVERY_SECONDS = 10.0

Advance = Callable[[int, str], None]


def say(text: str) -> None:
    """Print one line to the person who started the run."""
    console.print(text, soft_wrap=True, markup=False)


@contextlib.contextmanager
def progress(what: str, total: int | None) -> Iterator[Advance]:
    """Show how far a piece of work is; ``total`` is None where nobody knows how much there is.

    Yields:
        a function ``(done, note)``: ``done`` units so far, and a short note such as the loss.
    """
    if console.is_terminal:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task(f"  {what}", total=total, note="")
            yield lambda done, note: bar.update(task, completed=done, note=note)
        return
    last = time.monotonic()
    first: tuple[float, int] | None = None

    def line(done: int, note: str) -> None:
        nonlocal last, first
        now = time.monotonic()
        # From the first news on: what came before it, such as the start of a server, does not come again.
        first = first or (now, done)
        if now - last >= LINE_EVERY_SECONDS:
            last = now
            far = f"{what} {done}" if total is None else f"{what} {done}/{total}"
            left = "" if total is None else time_left(now - first[0], done - first[1], total - first[1])
            say("  " + ", ".join(filter(None, [far, note, left])))

    yield line


def time_left(seconds: float, done: int, total: int) -> str:
    """How long the rest takes if it goes on as before, for people: ``2 min left``; empty while nothing is done."""
    if not done:
        return ""
    left = seconds / done * max(0, total - done)
    if left < 90:
        return f"{left:.0f} s left"
    return f"{left / 60:.0f} min left" if left < 5400 else f"{left / 3600:.1f} h left"
