"""Renders templates for :class:`tasks.core.prompts.rendering.Renderer`, in a process that any row may end.

Reads JSON lines: ``{parts, partials}`` is a template, ``{values}`` a row for it. Answers each with one line:
``{contents}``, one text per part, or ``{problem, source, line}``.
"""

from __future__ import annotations

import json
import re
import resource
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import Any

from jinja2 import FunctionLoader, Template

from tasks.core.templates.environment import TemplateEnvironment

MAX_CHARACTERS = 2_000_000
"""A longer conversation does not fit any model's context: the template does not end."""
MAX_PROBLEM = 300
ADDRESS = re.compile(r" at 0x[0-9a-f]{6,}>", re.IGNORECASE)
"""How Python writes an object that is not data, such as ``<generator object ... at 0x7f...>``."""
Answer = dict[str, Any]


class Overrun(BaseException):
    """A row exceeded its processor time. Templates cannot catch it."""


def main() -> None:
    seconds, memory_mib = float(sys.argv[1]), int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_AS, (memory_mib * 2**20, memory_mib * 2**20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, _overrun)
    parts: list[Template] = []
    sources: list[str] = []
    for line in sys.stdin.buffer:

        def work(line: bytes = line) -> Answer:
            message = json.loads(line)
            if "values" in message:
                contents = _render(parts, message["values"])
                _refuse_addresses(contents, sources, message["values"])
                return {"contents": contents}
            sources[:] = [*message["parts"], *message["partials"].values()]
            parts[:] = _compile(message["parts"], message["partials"])
            return {}

        answer = _limited(work, seconds)
        sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
        sys.stdout.buffer.flush()


def _overrun(signal_number: int, frame: FrameType | None) -> None:
    raise Overrun


def _limited(work: Callable[[], Answer], seconds: float) -> Answer:
    try:
        # Processor time, so that a busy machine does not matter.
        signal.setitimer(signal.ITIMER_PROF, seconds)
        answer = work()
        signal.setitimer(signal.ITIMER_PROF, 0)
        return answer
    except Overrun:
        return {"problem": f"it takes more than {seconds:g} seconds", "limit": True}
    except MemoryError:
        signal.setitimer(signal.ITIMER_PROF, 0)
        return {"problem": "it needs too much memory", "limit": True}
    except Exception as error:  # an expression in a template can raise anything, such as ZeroDivisionError
        signal.setitimer(signal.ITIMER_PROF, 0)
        problem = f"{error}" if type(error).__module__.startswith("jinja2") else f"{type(error).__name__}: {error}"
        return {"problem": problem[:MAX_PROBLEM], **_place(error)}


def _compile(parts: Sequence[str], partials: Mapping[str, str]) -> list[Template]:
    def load(name: str) -> tuple[str, str, Callable[[], bool]] | None:
        return (partials[name], name, lambda: True) if name in partials else None

    environment = TemplateEnvironment(loader=FunctionLoader(load))
    return [
        Template.from_code(environment, environment.compile(source, filename=str(number)), dict(environment.globals))
        for number, source in enumerate(parts)
    ]


def _render(parts: Sequence[Template], values: Mapping[str, Any]) -> list[str]:
    contents: list[str] = []
    left = MAX_CHARACTERS
    for part in parts:
        pieces: list[str] = []
        for piece in part.generate(values):
            pieces.append(piece)
            left -= len(piece)
            if left < 0:
                raise ValueError(f"it is longer than {MAX_CHARACTERS:,} characters")
        contents.append("".join(pieces).strip())
        try:
            contents[-1].encode()
        except UnicodeEncodeError:
            raise ValueError("the text holds half of a surrogate pair, which is not a character") from None
    return contents


def _refuse_addresses(contents: Sequence[str], sources: Sequence[str], values: Mapping[str, Any]) -> None:
    """Refuse objects that a filter or ``~`` turned into text: the text differs in every process.

    Raises ValueError: a text holds a memory address that neither the template nor the row's values hold.
    """
    found = {match[0].casefold() for content in contents for match in ADDRESS.finditer(content)}
    if found:
        known = "".join([*sources, json.dumps(values)]).casefold()
        if any(address not in known for address in found):
            raise ValueError("an expression writes a Python object in place of data")


def _place(error: BaseException) -> Answer:
    """The source of an error: the part's number or the partial's name, and the line in it."""
    found: Answer = {}
    step = error.__traceback__
    while step is not None:
        name = step.tb_frame.f_code.co_filename
        if name.isdecimal() or name.startswith("partials/"):
            found = {"source": name, "line": step.tb_lineno}
        step = step.tb_next
    return found


if __name__ == "__main__":
    main()
