"""Workers: children that answer in JSON, send events, and fail with typed errors."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tasks.core import processes
from tasks.core.errors import ChildError, MemoryShortage, NotFinite, RetuneError, TrainingError, WorkerError
from tasks.core.processes import run_worker

HEAD = "import json, os, signal, subprocess, sys, time\nfrom tasks.core import errors\n"
TAIL = "\nif __name__ == '__main__':\n    from tasks.core.processes import worker_main\n    worker_main(work)\n"
SLEEPER = "[sys.executable, '-c', 'import time; time.sleep(600)']"


def work(folder: Path, body: str, job: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    """Write a worker whose ``work(job)`` has this body, and run it."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    (folder / "a_worker.py").write_text(f"{HEAD}def work(job):\n{lines}{TAIL}", encoding="utf-8")
    settings = {"timeout_s": 30.0, "environment": {"PYTHONPATH": str(folder)}, **options}
    return run_worker("a_worker", job or {}, folder=folder / "work", log=folder / "logs" / "worker.log", **settings)


def log(folder: Path) -> str:
    return (folder / "logs" / "worker.log").read_text(encoding="utf-8")


def ended(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_worker_gets_its_job_and_its_result_comes_back(tmp_path: Path) -> None:
    assert work(tmp_path, "return {'doubled': 2 * job['number']}", {"number": 21}) == {"doubled": 42}


def test_a_result_that_cannot_be_written_is_a_typed_error_and_not_worth_a_retry(tmp_path: Path) -> None:
    with pytest.raises(NotFinite, match="agreement is nan"):
        work(tmp_path, "return {'agreement': float('nan')}")


def test_if_several_ranks_fail_the_typed_error_is_reported(tmp_path: Path) -> None:
    body = (
        "if 'RANK' in os.environ:\n"
        "    raise errors.MemoryShortage('out of memory')\n"
        "subprocess.run([sys.executable, '-m', 'a_worker', sys.argv[1]], env={**os.environ, 'RANK': '1'})\n"
        "raise RuntimeError('connection closed by peer')"
    )
    with pytest.raises(MemoryShortage, match="out of memory"):
        work(tmp_path, body)


def test_events_arrive_in_order_and_everything_else_goes_to_the_log(tmp_path: Path) -> None:
    events: list[dict[str, Any]] = []
    body = (
        "from tasks.core.processes import emit\nemit(step=1, loss=0.5)\nprint('to stdout', flush=True)\n"
        "print('to stderr', file=sys.stderr, flush=True)\nemit(step=2, note='zürich')\nreturn {}"
    )
    work(tmp_path, body, on_event=events.append)
    assert events == [{"step": 1, "loss": 0.5}, {"step": 2, "note": "zürich"}]
    assert "to stdout" in log(tmp_path) and "to stderr" in log(tmp_path) and "@retune" not in log(tmp_path)


def test_a_line_that_is_broken_utf8_or_never_ended_stops_nothing(tmp_path: Path) -> None:
    body = "sys.stdout.buffer.write(b'\\xff broken\\nno end')\nsys.stdout.flush()\nreturn {'ok': True}"
    assert work(tmp_path, body) == {"ok": True}
    assert "broken" in log(tmp_path) and "no end" in log(tmp_path)


def test_a_line_that_only_looks_like_an_event_is_log(tmp_path: Path) -> None:
    events: list[dict[str, Any]] = []
    assert work(
        tmp_path,
        "print('@retune {half', flush=True)\nprint('@retune', 7, flush=True)\nreturn {'ok': True}",
        on_event=events.append,
    )["ok"]
    assert not events and "@retune {half" in log(tmp_path) and "@retune 7" in log(tmp_path)


def test_an_event_behind_a_progress_bar_arrives(tmp_path: Path) -> None:
    events: list[dict[str, Any]] = []
    body = (
        "from tasks.core.processes import emit\nsys.stderr.write('\\r 50%|##  |')\nsys.stderr.flush()\n"
        "emit(step=1)\nreturn {}"
    )
    work(tmp_path, body, on_event=events.append)
    assert events == [{"step": 1}]


@pytest.mark.parametrize("kind", [TrainingError, MemoryShortage, ChildError])
def test_a_workers_typed_error_is_raised_here_with_its_parts(tmp_path: Path, kind: type[RetuneError]) -> None:
    with pytest.raises(kind) as caught:
        work(tmp_path, f"raise errors.{kind.__name__}('No good', where='step 3', remedy='use less')")
    assert type(caught.value) is kind
    assert (caught.value.what, caught.value.where, caught.value.remedy) == ("No good", "step 3", "use less")


def test_an_error_without_a_place_points_to_the_log(tmp_path: Path) -> None:
    with pytest.raises(TrainingError) as caught:
        work(tmp_path, "raise errors.TrainingError('No good')")
    assert caught.value.where == str(tmp_path / "logs" / "worker.log")


def test_death_without_a_result_shows_exit_status_and_last_lines(tmp_path: Path) -> None:
    with pytest.raises(ChildError, match="exit status -9") as caught:
        work(tmp_path, "print('the last words', flush=True)\nos.kill(os.getpid(), signal.SIGKILL)")
    assert "the last words" in caught.value.what and caught.value.retryable


def test_any_other_exception_of_a_worker_is_named_and_not_tried_again(tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match="KeyError: 'missing key'") as caught:
        work(tmp_path, "{}['missing key']")
    assert not caught.value.retryable and caught.value.where.endswith("worker.log")
    assert "Traceback" in log(tmp_path)


def test_the_result_of_an_earlier_worker_is_never_taken_for_this_ones(tmp_path: Path) -> None:
    work(tmp_path, "return {'old': True}")
    with pytest.raises(ChildError):
        work(tmp_path, "os._exit(0)")


def test_a_timeout_ends_the_whole_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A grandchild of the same session, and one of its own: both are gone when the error arrives."""
    monkeypatch.setattr(processes, "GRACE_SECONDS", 1)
    body = (
        f"pids = [subprocess.Popen({SLEEPER}, start_new_session=own).pid for own in (False, True)]\n"
        "from tasks.core.processes import emit\nemit(pids=[os.getpid(), *pids])\ntime.sleep(600)"
    )
    events: list[dict[str, Any]] = []
    started = time.monotonic()
    with pytest.raises(ChildError, match="exceeded its") as caught:
        work(tmp_path, body, on_event=events.append, timeout_s=2.0)
    assert time.monotonic() - started < 15
    assert "timeout_minutes" in caught.value.remedy
    assert len(events[0]["pids"]) == 3 and all(map(ended, events[0]["pids"]))


def test_a_grandchild_that_holds_the_output_open_does_not_hold_up_the_result(tmp_path: Path) -> None:
    body = f"return {{'pid': subprocess.Popen({SLEEPER}).pid}}"
    started = time.monotonic()
    assert ended(work(tmp_path, body)["pid"])
    assert time.monotonic() - started < 15


def test_what_a_callback_raises_ends_the_worker(tmp_path: Path) -> None:
    seen: list[int] = []

    def stop(event: dict[str, Any]) -> None:
        seen.append(event["pid"])
        raise KeyboardInterrupt

    body = "from tasks.core.processes import emit\nemit(pid=os.getpid())\ntime.sleep(600)"
    with pytest.raises(KeyboardInterrupt):
        work(tmp_path, body, on_event=stop)
    assert ended(seen[0])


def test_a_worker_sees_this_processs_environment_and_what_is_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FROM_PARENT", "1")
    body = "return {name: os.environ.get(name) for name in ('FROM_PARENT', 'ADDED')}"
    environment = {"PYTHONPATH": str(tmp_path), "ADDED": "2"}
    assert work(tmp_path, body, environment=environment) == {"FROM_PARENT": "1", "ADDED": "2"}
    assert "ADDED" not in os.environ
