"""No child outlives its parent's block, whatever it does."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest

from tasks.core import processes
from tasks.core.processes import running

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"


def spawn(child: str, pids: Path) -> str:
    """A program that starts another one, which does not carry its mark, and notes its process id."""
    return (
        "import subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-c', {child!r}], env={{}})\n"
        f"open({str(pids)!r}, 'w').write(str(child.pid))\n"
        "time.sleep(600)"
    )


def read_pid(pids: Path) -> int:
    deadline = time.monotonic() + 20
    while not (pids.is_file() and pids.read_text(encoding="utf-8")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return int(pids.read_text(encoding="utf-8"))


def lives(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_the_tree_ends_with_the_block(tmp_path: Path) -> None:
    pids = tmp_path / "pid"
    with running([sys.executable, "-c", spawn("import time; time.sleep(600)", pids)], log=tmp_path / "log") as process:
        child = read_pid(pids)
    assert not lives(child) and process.poll() is not None


def test_a_child_whose_parent_was_killed_is_found_and_ended(tmp_path: Path) -> None:
    """It has lost its parent and overwritten its environment, as vLLM's engine does: only its session tells."""
    pids = tmp_path / "pid"
    with running([sys.executable, "-c", spawn("import time; time.sleep(600)", pids)], log=tmp_path / "log") as process:
        child = read_pid(pids)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(timeout=10)
        assert lives(child)
    assert not lives(child)


def test_a_process_that_ignores_the_signal_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "GRACE_SECONDS", 1)
    with running([sys.executable, "-c", f"print('up', flush=True); {STUBBORN}"], log=tmp_path / "log") as process:
        while "up" not in (tmp_path / "log").read_text(encoding="utf-8"):
            time.sleep(0.02)
        time.sleep(0.3)
    assert process.returncode == -signal.SIGKILL
