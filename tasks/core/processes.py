"""Child processes that end with their parent, and workers that return JSON."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import psutil

from tasks.core import child as child_module
from tasks.core import errors
from tasks.core.child_logs import cause_in, new_log
from tasks.core.errors import ChildError, RetuneError, WorkerError
from tasks.core.files import read_json, write_json
from tasks.core.home import PROJECT_ROOT

MARK = "RETUNE_CHILD"
GRACE_SECONDS = 15
EVENT_PREFIX = "@retune "
RESULT = "result"

_ended: dict[str, tuple[int, float]] = {}
"""The process id of every command that this process started, and when it ended (epoch seconds), by its mark."""


def free_port() -> int:
    """A port of 127.0.0.1 that is free at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def running(
    command: Sequence[str], *, log: Path | int, environment: Mapping[str, str] | None = None, cwd: Path = PROJECT_ROOT
) -> Iterator[subprocess.Popen[str]]:
    """Start a command, and end its whole process tree when the block ends, also by an exception.

    ``log``: a file, or an open descriptor, for its output; ``environment`` is added to this process's.
    """
    mark = uuid.uuid4().hex
    # Children import thousands of modules, which takes twice as long without cached bytecode.
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", **(environment or {}), MARK: mark}
    with contextlib.ExitStack() as stack:
        output: IO[bytes] | int
        if isinstance(log, Path):
            log.parent.mkdir(parents=True, exist_ok=True)
            output = stack.enter_context(log.open("ab"))
        else:
            output = log
        process = subprocess.Popen(
            [sys.executable, child_module.__file__, str(os.getpid()), *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=env,
            cwd=cwd,
            text=True,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            _end_tree(process, mark)
            _ended[mark] = (process.pid, time.time())


def survivors() -> list[psutil.Process]:
    """Processes that outlived the commands that started them: none, unless the kernel cannot end one.

    Zombies do not count, nor processes that started later: the system gave them a used process id.
    """
    found: set[psutil.Process] = set()
    for mark, (pid, ended) in _ended.items():
        for process in _tree(pid, mark):
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= ended:
                    found.add(process)
    return sorted(found, key=lambda process: process.pid)


def _end_tree(process: subprocess.Popen[str], mark: str) -> None:
    members = _tree(process.pid, mark)
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(process.pid).terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=GRACE_SECONDS)
    process.kill()
    members = {*members, *_tree(process.pid, mark)}
    for member in members:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.terminate()
    _, alive = psutil.wait_procs(members, timeout=GRACE_SECONDS / 3)
    for member in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    psutil.wait_procs(alive, timeout=GRACE_SECONDS)
    process.wait(timeout=GRACE_SECONDS)


def _tree(pid: int, mark: str) -> set[psutil.Process]:
    """The descendants of a process, and orphans: all processes in its session or with its mark.

    The session finds the children of a killed root, even if they overwrote their environment (as vLLM's do with their
    titles); the mark finds processes that opened a session of their own.
    """
    found: set[psutil.Process] = set()
    with contextlib.suppress(psutil.NoSuchProcess):
        found.update(psutil.Process(pid).children(recursive=True))
    for candidate in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if candidate.pid != pid and (os.getsid(candidate.pid) == pid or candidate.environ().get(MARK) == mark):
                found.add(candidate)
    return found


def run_worker(
    module: str,
    job: Mapping[str, Any],
    *,
    folder: Path,
    log: Path,
    timeout_s: float,
    on_event: Callable[[dict[str, Any]], None] = lambda event: None,
    environment: Mapping[str, str] | None = None,
    launcher: Sequence[str] = ("-m",),
) -> dict[str, Any]:
    """Run ``python -m module job.json`` and return its result.

    The worker prints events as lines ``@retune {json}``; every other line goes to the log.

    Args:
        module: a module that calls :func:`worker_main`.
        job: its input, JSON-like.
        folder: for the files of job and result.
        log: the name of the log file; every call has one of its own, with a number if the name is taken.
        environment: added to this process's environment.
        launcher: arguments between ``python`` and the module, such as those of torchrun.

    Raises RetuneError: the worker's own typed error, rebuilt here; ChildError: the worker died without a result, or
    exceeded its time limit.
    """
    folder.mkdir(parents=True, exist_ok=True)
    job_file = folder / "job.json"
    for left_over in folder.glob(f"{RESULT}*.json"):
        left_over.unlink()
    write_json(job_file, job)
    log = new_log(log)
    deadline = time.monotonic() + timeout_s
    read_end, write_end = os.pipe()
    with (
        os.fdopen(read_end, "rb") as output,
        log.open("a", encoding="utf-8") as log_file,
        running([sys.executable, *launcher, module, str(job_file)], log=write_end, environment=environment) as process,
    ):
        os.close(write_end)
        for line in _lines_until(output.fileno(), process, deadline):
            if (event := _event(line)) is not None:
                on_event(event)
            else:
                log_file.write(line)
                log_file.flush()
        is_late = time.monotonic() > deadline
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=GRACE_SECONDS)
        code = process.poll()
    if is_late:
        raise ChildError(
            f"{module} exceeded its time limit of {timeout_s / 60:.0f} minutes and was stopped",
            where=str(log),
            remedy="raise the stage's timeout_minutes in the recipe, or reduce its work",
        )
    result = _result_in(folder)
    if result is None:
        raise ChildError(
            f"{module} died without a result (exit status {code}); {cause_in(log)}",
            where=str(log),
            remedy="read the whole log; exit status -9 usually means that the machine ran out of memory",
        )
    if "error" in result:
        failed = result["error"]
        raise _error_class(failed["type"])(failed["what"], where=failed["where"] or str(log), remedy=failed["remedy"])
    return result


def _result_in(folder: Path) -> dict[str, Any] | None:
    """A worker's result. If several ranks failed, report the typed error; the rest are usually consequences."""
    results = [read_json(path) for path in sorted(folder.glob(f"{RESULT}*.json"))]
    failed = [result for result in results if "error" in result]
    failed.sort(key=lambda result: result["error"]["type"] == WorkerError.__name__)
    return next(iter([*failed, *results]), None)


def _event(line: str) -> dict[str, Any] | None:
    _, _, text = line.partition(EVENT_PREFIX)
    try:
        event = json.loads(text)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None


def _lines_until(output: int, process: subprocess.Popen[str], deadline: float) -> Iterator[str]:
    """Lines of a pipe until it closes, its process has ended, or the deadline has passed."""
    poll = select.poll()
    poll.register(output, select.POLLIN)
    unfinished = b""
    while time.monotonic() <= deadline:
        if not poll.poll(500):
            if process.poll() is not None:
                break
            continue
        chunk = os.read(output, 65536)
        if not chunk:
            break
        *lines, unfinished = (unfinished + chunk).split(b"\n")
        yield from (line.decode("utf-8", errors="replace") + "\n" for line in lines)
    if unfinished:
        yield unfinished.decode("utf-8", errors="replace") + "\n"


def _error_class(name: str) -> type[RetuneError]:
    found = getattr(errors, name, None)
    return found if isinstance(found, type) and issubclass(found, RetuneError) else ChildError


def emit(**event: Any) -> None:
    """Send an event from a worker to its parent; of several ranks, only the first sends."""
    if os.environ.get("RANK", "0") == "0":
        print(EVENT_PREFIX + json.dumps(event), flush=True)


def worker_main(work: Callable[[dict[str, Any]], dict[str, Any] | None]) -> None:
    """The body of a worker's ``__main__``: read the job, do it, and write its result, if any, or the error."""
    job_file = Path(sys.argv[1])
    rank = os.environ.get("RANK", "0")
    result_file = job_file.with_name(f"{RESULT}.json" if rank == "0" else f"{RESULT}-{rank}.json")

    def write_error(error: RetuneError) -> None:
        failed = {"type": type(error).__name__, "what": error.what, "where": error.where, "remedy": error.remedy}
        write_json(result_file, {"error": failed})

    try:
        result = work(read_json(job_file))
        if result is not None:
            write_json(result_file, result)
    except RetuneError as error:
        write_error(error)
        raise SystemExit(1) from error
    except Exception as error:
        # A retry would repeat this error. A worker without a result was killed, and a retry can help.
        write_error(WorkerError(f"{type(error).__name__}: {error}", remedy="read the traceback in the log"))
        raise
