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
def progress(what: str, total: int) -> Iterator[Advance]:
    """Show how far a piece of work is.

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

    def line(done: int, note: str) -> None:
        nonlocal last
        if time.monotonic() - last >= LINE_EVERY_SECONDS:
            last = time.monotonic()
            say(f"  {what} {done}/{total} {note}".rstrip())

    yield line
