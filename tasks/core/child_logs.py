"""What the log of a child process says about why the child ended.

The lines that matter are rarely the last ones: vLLM writes its engine's traceback, and then a page about its shutdown.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

LAST_LINES = 15
MESSAGE_LINES = 8
WIDEST = 400
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
STAMP = re.compile(
    r"(?P<process>(?:\([\w-]+[^)]*pid=\d+\) ?)?(?:\[rank\d+\]: ?)?)(?:[A-Z]+ \d\d-\d\d [\d:]+ (?P<place>\[[^\]]*\]) ?)?"
)
"""What vLLM and torchrun write before every line of a traceback: process, level, time and place."""
TRACEBACK = re.compile(r"^[\s|+-]*(?:Exception Group )?Traceback \(most recent call last\):\s*$")
CAUSED = "The above exception was the direct cause of the following exception:"
IGNORED = ("Exception ignored in", "Exception ignored on")
CONSEQUENCES = re.compile(
    r"EngineDeadError|EngineGenerateError|See (?:root cause|stack trace)|ChildFailedError|CalledProcessError"
    r"|^(?:[\w.]+\.)?(?:CancelledError|KeyboardInterrupt|SystemExit|BrokenPipeError|ConnectionResetError|EOFError"
    r"|ContextTerminated|ProcessExitedException|BrokenProcessPool)\b"
)
"""Exceptions of a process whose partner ended first."""
FATAL = re.compile(
    r"^Killed\b|out of memory|oom[-_]kill|OutOfMemory|Segmentation fault|Fatal Python error|Bus error"
    r"|Illegal instruction|No space left on device|^[\w.-]+: error: ",
    re.IGNORECASE,
)
"""What the kernel, the C library or a command line says instead of an exception."""
HARMLESS = re.compile(r"^(?:[\d:., -]+)?(?:INFO|WARNING|DEBUG)\b|Warning:")
REPORTED = re.compile(r"^(?:[\d:., -]+)?(?:ERROR|CRITICAL|FATAL)\b|^terminate called|^Aborted\b|^\s+what\(\):")


@dataclass(frozen=True)
class Cause:
    """A passage of a log: the number of its first line, and its lines."""

    number: int
    lines: tuple[str, ...]


def new_log(path: Path) -> Path:
    """Create an empty log of this name, with a number if there is one: an attempt never overwrites another's log."""
    path.parent.mkdir(parents=True, exist_ok=True)
    log, number = path, 1
    while True:
        try:
            log.touch(exist_ok=False)
        except FileExistsError:
            number += 1
            log = path.with_stem(f"{path.stem}-{number}")
        else:
            return log


def last_lines(path: Path, count: int = LAST_LINES) -> str:
    """The last lines of a log file, indented, for an error message."""
    return _shown(_text_of(path).rstrip().splitlines()[-count:])


def cause_in(log: Path) -> str:
    """The part of an error's message that says why a child ended.

    That is the last exception in its log that is not the consequence of another one, or the kernel's or the C library's
    last words; else its last error line; else its last lines.
    """
    cause = find_cause(_text_of(log))
    if cause is None:
        return f"its last lines:\n{last_lines(log)}"
    return f"the cause in line {cause.number} of its log:\n{_shown(cause.lines)}"


def cause_line(log: Path) -> str:
    """The first line of the cause in a log, empty if there is none."""
    cause = find_cause(_text_of(log))
    return cause.lines[0].strip()[:WIDEST] if cause else ""


def find_cause(text: str) -> Cause | None:
    """The passage of a log that names the cause, wherever it is; None if no line looks like one."""
    lines = COLOUR.sub("", text).splitlines()
    found = list(_exceptions(lines))
    inside = {number for cause in found for number in range(cause.number, cause.number + len(cause.lines))}
    fatal = [Cause(number, (line,)) for number, line in _matching(lines, FATAL) if number not in inside]
    first_class = [cause for cause in found if not _is_consequence(cause)] + fatal
    reported = [Cause(number, (line,)) for number, line in _matching(lines, REPORTED) if number not in inside]
    for candidates in (first_class, found, reported):
        if candidates:
            return max(candidates, key=lambda cause: cause.number)
    return None


def _is_consequence(cause: Cause) -> bool:
    return any(CONSEQUENCES.search(line) for line in cause.lines if not line.startswith(" "))


def _matching(lines: Sequence[str], pattern: re.Pattern[str]) -> Iterator[tuple[int, str]]:
    """Lines of the pattern, with or without what a logger writes before them, that are not only a note or a warning."""
    for number, line in enumerate(lines, 1):
        stamp = _stamp(line)
        words, rest = line[stamp.end() :], line.removeprefix(stamp["process"]).strip()
        if not HARMLESS.search(rest) and (pattern.search(words) or pattern.search(rest)):
            yield number, line.strip()


def _exceptions(lines: Sequence[str]) -> Iterator[Cause]:
    """The exceptions of all tracebacks; of a chain of direct causes, the first. Processes may write in turns."""
    streams: dict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)
    for number, line in enumerate(lines, 1):
        stamp = _stamp(line)
        streams[stamp["process"], stamp["place"]].append((number, line[stamp.end() :]))
    for stream in streams.values():
        before = ""
        for at, (_, words) in enumerate(stream):
            is_first = not before.startswith((CAUSED, *IGNORED))
            if TRACEBACK.match(words) and is_first and (cause := _exception_after(stream[at + 1 :])):
                yield cause
            before = words.strip(" |") or before


def _exception_after(stream: Sequence[tuple[int, str]]) -> Cause | None:
    """The exception that ends a traceback: its message, and its innermost frame."""
    frame: list[str] = []
    for at, (number, words) in enumerate(stream):
        if words.startswith((" ", "\t")) or not words.strip():
            if words.lstrip(" |").startswith("File "):
                frame = [words]
            elif words.strip() and len(frame) == 1:
                frame.append(words)
            continue
        message = [words]
        for after, (next_number, more) in enumerate(stream[at + 1 : at + MESSAGE_LINES], 1):
            if next_number != number + after or not more.strip() or TRACEBACK.match(more) or HARMLESS.search(more):
                break
            message.append(more)
        return Cause(number, (*message, *frame))
    return None


def _stamp(line: str) -> re.Match[str]:
    found = STAMP.match(line)
    assert found is not None  # every part is optional
    return found


def _text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _shown(lines: Sequence[str]) -> str:
    return "\n".join(f"    {line[:WIDEST]}" for line in lines) or "    (no output)"
