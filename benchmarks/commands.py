"""Time the start of Retune's commands: ``.venv/bin/python -m benchmarks.commands``, on an idle machine.

Each command runs five times as a process, in turn with ``python -c pass``, which is the floor. A home with one small
night is made first. Goals are medians of wall time, in seconds, on two idle cores.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tasks.core.home import PROJECT_ROOT
from tests.flows.small_night import small_night

ROUNDS = 5
FLOOR = "python -c pass"
ROWS = 1_000
CONTRACT = "chat_examples"


def commands(folder: Path) -> dict[str, tuple[list[str], float | None]]:
    """By name: the command line, and its goal in seconds."""
    rows = folder / "rows.csv"
    rows.write_text("message,queue\n" + "\n".join(f"where is card {at},cards" for at in range(ROWS)), encoding="utf-8")
    retune = [sys.executable, "-m", "retune"]
    return {
        FLOOR: ([sys.executable, "-c", "pass"], None),
        "retune --help": ([*retune, "--help"], 0.5),
        "retune report": ([*retune, "report"], 0.5),
        "retune plan": ([*retune, "plan", "--recipe", "embedded"], 3.0),
        "retune prompts lint": ([*retune, "prompts", "lint"], 1.0),
        "retune quarantine list": ([*retune, "quarantine", "list"], 1.0),
        "retune contracts lint": ([*retune, "contracts", "lint"], 2.0),
        f"retune contracts check, {ROWS:,} rows": (
            [*retune, "contracts", "check", str(rows), "--contract", CONTRACT], 5.0
        ),
    }  # fmt: skip


def measure(arguments: list[str], home: Path) -> tuple[float, float]:
    """Wall seconds and processor seconds (user and system) of one run of a command."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    environment = {**os.environ, "RETUNE_HOME": str(home)}
    subprocess.run(arguments, cwd=PROJECT_ROOT, env=environment, capture_output=True, check=False)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure every command and print a table in Markdown."""
    with tempfile.TemporaryDirectory() as scratch:
        night = small_night(Path(scratch))
        night.run()
        measured: dict[str, list[tuple[float, float]]] = {}
        lines = commands(Path(scratch))
        for _ in range(ROUNDS):
            for name, (arguments, _) in lines.items():
                measured.setdefault(name, []).append(measure(arguments, night.home.root))
    print("| command | wall, s | processor, s | goal, s |\n|---|---:|---:|---:|")
    for name, (_, goal) in lines.items():
        wall, processor = (statistics.median(times) for times in zip(*measured[name], strict=True))
        print(f"| `{name}` | {wall:.2f} | {processor:.2f} | {'' if goal is None else goal} |")


if __name__ == "__main__":
    main()
