"""Render templates in a child process, where a row without end stops only itself."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.core import child
from tasks.core.errors import ChildError
from tasks.core.home import PROJECT_ROOT
from tasks.core.prompts.template import Prompt

WORKER = "tasks.core.templates.render_worker"
START_SECONDS = 120.0
SLACK_SECONDS = 3.0
MAX_ANSWER_BYTES = 64 * 2**20
STRIKES = 10
"""After this many consecutive rows beyond a limit, the template's other rows are not tried."""

HANDED = {"PATH", "HOME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH"}
HANDED_PREFIXES = ("LC_", "PYTHON")
"""The environment variables that the child gets."""


@dataclass(frozen=True)
class Rendered:
    """A rendered row: the messages to send, or None and the problem, with file and line."""

    messages: list[dict[str, str]] | None
    problem: str = ""


class Renderer:
    """A child process that renders rows; it starts at the first row, and again after a row that ended it.

    A row may take ``seconds`` of processor time and the child ``memory_mib`` of address space. Values go to it as JSON
    and are never compiled. A template that fails too often (:data:`STRIKES`) is not tried again by this renderer. Use
    it as a context manager, in one thread at a time.
    """

    def __init__(self, *, seconds: float = 2.0, memory_mib: int = 512) -> None:
        self._seconds, self._memory_mib = seconds, memory_mib
        self._child: subprocess.Popen[bytes] | None = None
        self._strikes: dict[str, int] = {}

    def __enter__(self) -> Renderer:
        return self

    def __exit__(self, *exception: object) -> None:
        self._end()

    def render(self, prompt: Prompt, values: Sequence[Mapping[str, Any]]) -> list[Rendered]:
        """Render a conversation for each row, in order; a row that fails has a problem in place of messages.

        Values are by variable; other names are ignored. Raises ChildError: the child process cannot start.
        """
        template = {"parts": [source for _, source in prompt.parts], "partials": dict(prompt.partials)}
        rendered: list[Rendered] = []
        loaded: subprocess.Popen[bytes] | None = None
        digest, refusal = prompt.digest, ""
        for row in values:
            if self._strikes.get(digest, 0) == STRIKES:
                refusal = f"not tried: the {STRIKES} rows before it broke the limits of time and memory"
            if not refusal and (loaded is None or loaded is not self._child):
                refusal = self._load(template)
                loaded = self._child
            if refusal:
                rendered.append(Rendered(None, refusal))
                continue
            answer = self._ask({"values": prompt.namespace(row)})
            rendered.append(_read(prompt, answer))
            self._strikes[digest] = self._strikes.get(digest, 0) + 1 if answer.get("limit") else 0
        return rendered

    def _load(self, template: Mapping[str, Any]) -> str:
        self._start()
        answer = self._ask(template)
        if answer.get("limit"):  # without any row yet, the child itself may be the cause
            self._start()
            answer = self._ask(template)
        return str(answer.get("problem", ""))

    def _start(self) -> None:
        if self._child is not None and self._child.poll() is None:
            return
        self._end()
        command = [sys.executable, "-m", WORKER, str(self._seconds), str(self._memory_mib)]
        with tempfile.TemporaryFile() as errors:
            self._child = subprocess.Popen(
                [sys.executable, child.__file__, str(os.getpid()), *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=_environment(),
                cwd=PROJECT_ROOT,
                start_new_session=True,
            )
            if "problem" in self._ask({"parts": [], "partials": {}}, START_SECONDS):
                errors.seek(0)
                lines = errors.read().decode(errors="replace").strip().splitlines()[-5:]
                raise ChildError("\n    ".join(["The process that renders prompts does not start", *lines]))

    def _ask(self, message: Mapping[str, Any], seconds: float | None = None) -> dict[str, Any]:
        if self._child is None or self._child.stdin is None:
            raise ChildError("The process that renders prompts is not running")
        # The child limits its own processor time. This limit of real time is for code that it cannot interrupt.
        limit = seconds or 2 * self._seconds + SLACK_SECONDS
        try:
            line = json.dumps(message, default=str).encode() + b"\n"
        except (TypeError, ValueError, RecursionError) as error:
            return {"problem": f"its values cannot be written as JSON: {error}"}
        try:
            self._child.stdin.write(line)
            self._child.stdin.flush()
            line = self._line(time.monotonic() + limit)
        except TimeoutError:
            self._end()
            return {"problem": f"it takes more than {self._seconds:g} seconds", "limit": True}
        except OSError:
            self._end()
            return {"problem": "it ended the process that renders it, probably by its memory", "limit": True}
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _line(self, deadline: float) -> bytes:
        """The child's next line; TimeoutError after the deadline, OSError after its end or a line that is too long."""
        stdout = self._child.stdout if self._child else None
        if stdout is None:
            raise BrokenPipeError
        poll = select.poll()
        poll.register(stdout, select.POLLIN)
        pieces: list[bytes] = []
        size = 0
        while True:
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise TimeoutError
            piece = os.read(stdout.fileno(), 1 << 20)
            size += len(piece)
            if not piece or size > MAX_ANSWER_BYTES:
                raise BrokenPipeError
            pieces.append(piece)
            if piece.endswith(b"\n"):
                return b"".join(pieces)

    def _end(self) -> None:
        ended, self._child = self._child, None
        if ended is not None:
            ended.kill()
            ended.wait()
            for pipe in (ended.stdin, ended.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):  # unsent data cannot be flushed
                        pipe.close()


def _environment() -> dict[str, str]:
    handed = {name: value for name, value in os.environ.items() if name in HANDED or name.startswith(HANDED_PREFIXES)}
    # Without a seed, hashes and so the order of sets differ between processes.
    return {**handed, "PYTHONDONTWRITEBYTECODE": "", "PYTHONHASHSEED": "0"}


def _read(prompt: Prompt, answer: Mapping[str, Any]) -> Rendered:
    if "problem" in answer:
        return Rendered(None, f"{answer['problem']}{_place(prompt, answer)}")
    roles = (role for role, _ in prompt.parts)
    return Rendered([{"role": role, "content": text} for role, text in zip(roles, answer["contents"], strict=True)])


def _place(prompt: Prompt, answer: Mapping[str, Any]) -> str:
    """File and line of a problem, without the folder, because it is stored with the data."""
    if "source" not in answer:
        return ""
    source, line = str(answer["source"]), int(answer["line"])
    if not source.isdecimal():
        return f" ({source}:{line})"
    first = prompt.part_lines[int(source)] if prompt.part_lines else 1
    return f" ({prompt.path.name}:{first - 1 + line})"
