"""Progress where there is no terminal: a line now and then, never markup."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from tasks.core import progress as progress_module
from tasks.core.progress import progress, say, time_left


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    stream = io.StringIO()
    monkeypatch.setattr(progress_module, "console", Console(file=stream, force_terminal=False, highlight=False))
    return stream


def test_a_line_is_printed_as_it_is_whatever_its_brackets_and_length(written: io.StringIO) -> None:
    line = "see [bold]this[/bold] " + "x" * 300
    say(line)
    assert written.getvalue() == line + "\n"


def test_lines_come_no_faster_than_the_interval(written: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, 10.5, 11.0])
    monkeypatch.setattr("tasks.core.progress.time.monotonic", lambda: next(clock))
    with progress("asking", 30) as advance:
        advance(1, "")
        advance(20, "7 tokens")
        advance(30, "")
    assert written.getvalue() == "  asking 20/30, 7 tokens, 5 s left\n"


def test_on_a_terminal_the_bar_reaches_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(progress_module, "console", Console(file=stream, force_terminal=True, width=100))
    with progress("training", 3) as advance:
        advance(3, "loss 0.1")
    assert "3/3" in stream.getvalue() and "loss 0.1" in stream.getvalue()


@pytest.mark.parametrize(
    ("seconds", "done", "left"),
    [(10, 0, ""), (10, 5, "10 s left"), (60, 1, "9 min left"), (3600, 1, "9.0 h left"), (10, 12, "0 s left")],
)
def test_the_time_left_has_a_readable_unit(seconds: float, done: int, left: str) -> None:
    assert time_left(seconds, done, 10) == left
