"""No child outlives its parent's block, whatever it does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tasks.core import processes
from tasks.core.home import PROJECT_ROOT
from tasks.core.processes import running

STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
)


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
    with running([sys.executable, "-c", STUBBORN], log=tmp_path / "log") as process:
        while "up" not in (tmp_path / "log").read_text(encoding="utf-8"):
            time.sleep(0.02)
    assert process.returncode == -signal.SIGKILL


def test_an_orphan_in_a_session_of_its_own_is_found_by_its_mark(tmp_path: Path) -> None:
    pids = tmp_path / "pid"
    daemon = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True)\n"
        f"open({str(pids)!r}, 'w').write(str(child.pid))"
    )
    with running([sys.executable, "-c", daemon], log=tmp_path / "log") as process:
        orphan = read_pid(pids)
        assert process.wait(timeout=10) == 0 and lives(orphan)
    assert not lives(orphan)


def test_other_processes_are_left_alone(tmp_path: Path) -> None:
    with running([sys.executable, "-c", "import time; time.sleep(600)"], log=tmp_path / "one") as mine:
        with running([sys.executable, "-c", "import time; time.sleep(600)"], log=tmp_path / "two"):
            pass
        assert mine.poll() is None


def test_a_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    """Nothing of the parent's code runs after SIGKILL: the kernel tells the child."""
    pids, log = tmp_path / "pid", str(tmp_path / "log")
    parent = (
        "import sys, time\nfrom pathlib import Path\nfrom tasks.core.processes import running\n"
        f"with running([sys.executable, '-c', 'import time; time.sleep(600)'], log=Path({log!r})) as p:\n"
        f"    time.sleep(0.5)\n    open({str(pids)!r}, 'w').write(str(p.pid))\n    time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", parent], cwd=PROJECT_ROOT) as process:
        child = read_pid(pids)
        assert lives(child)
        process.kill()
    deadline = time.monotonic() + 10
    while lives(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not lives(child)
