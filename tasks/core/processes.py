"""Child processes that never outlive their parent, and workers that answer in JSON."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
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
from tasks.core.errors import ChildError, RetuneError, WorkerError
from tasks.core.files import write_json
from tasks.core.home import PROJECT_ROOT

MARK = "RETUNE_CHILD"
GRACE_SECONDS = 15
EVENT_PREFIX = "@retune "
RESULT = "result"

_ended: dict[str, tuple[int, float]] = {}
"""By its mark, the process id of every command that this process started, and when it was ended (epoch seconds)."""


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def last_lines(path: Path, count: int = 15) -> str:
    """The last lines of a log file, indented, for an error message."""
    if not path.is_file():
        return "    (no output)"
    lines = path.read_text(encoding="utf-8", errors="replace").rstrip().splitlines()
    return "\n".join(f"    {line}" for line in lines[-count:]) or "    (no output)"


@contextlib.contextmanager
def running(
    command: Sequence[str], *, log: Path | int, environment: Mapping[str, str] | None = None, cwd: Path = PROJECT_ROOT
) -> Iterator[subprocess.Popen[str]]:
    """Start a command and end its whole process tree on the way out, whatever happened.

    Args:
        command: program and arguments.
        log: file, or open file descriptor, for its output and standard error.
        environment: added to this process's environment.
        cwd: its working folder.
    """
    mark = uuid.uuid4().hex
    # Children import thousands of modules: without cached bytecode that takes twice as long.
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
            end_tree(process, mark)
            _ended[mark] = (process.pid, time.time())


def survivors() -> list[psutil.Process]:
    """Processes that outlived the commands which started them: there are none, unless the kernel cannot end one.

    A zombie holds nothing, and a process that began later was given the number of one that is gone.
    """
    found: set[psutil.Process] = set()
    for mark, (pid, ended) in _ended.items():
        for process in _tree(pid, mark):
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= ended:
                    found.add(process)
    return sorted(found, key=lambda process: process.pid)


def end_tree(process: subprocess.Popen[str], mark: str) -> None:
    """End a process, its descendants, and orphans: whoever is of its session or still carries its mark.

    The session finds the children of a root that was killed, even where they overwrote their environment (as vLLM's
    do with their titles); the mark finds those that opened a session of their own.
    """
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
    found: set[psutil.Process] = set()
    with contextlib.suppress(psutil.NoSuchProcess):
        found.update(psutil.Process(pid).children(recursive=True))
    for candidate in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if candidate.pid != pid and (_session(candidate.pid) == pid or candidate.environ().get(MARK) == mark):
                found.add(candidate)
    return found


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


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
    """Run ``python -m module job.json`` and return the result it wrote.

    The worker prints events as lines ``@retune {json}``; every other line goes to the log.

    Args:
        module: a module that calls :func:`worker_main`.
        job: what to do, JSON-like.
        folder: where job and result are written.
        log: file for the worker's output.
        timeout_s: seconds after which its tree is ended.
        on_event: called with every event.
        environment: added to this process's environment.
        launcher: what stands between ``python`` and the module, where another module starts it.

    Raises:
        RetuneError: the worker's own typed error, rebuilt here.
        ChildError: it died without a result, or ran over its time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    job_file = folder / "job.json"
    for left_over in folder.glob(f"{RESULT}*.json"):
        left_over.unlink()
    write_json(job_file, job)
    log.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + timeout_s
    read_end, write_end = os.pipe()
    with (
        os.fdopen(read_end, encoding="utf-8", errors="replace") as output,
        log.open("a", encoding="utf-8") as log_file,
        running([sys.executable, *launcher, module, str(job_file)], log=write_end, environment=environment) as process,
    ):
        os.close(write_end)
        for line in _lines_until(output, process, deadline):
            if (event := _event(line)) is not None:
                on_event(event)
            else:
                log_file.write(line)
                log_file.flush()
        overran = time.monotonic() > deadline
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=GRACE_SECONDS)
        code = process.poll()
    if overran:
        raise ChildError(
            f"{module} ran over its {timeout_s / 60:.0f} minutes and was ended",
            where=str(log),
            remedy="raise the stage's timeout_minutes in the recipe, or make its work smaller",
        )
    result = _result_in(folder)
    if result is None:
        raise ChildError(
            f"{module} died without a result (exit status {code}); its last lines:\n{last_lines(log)}",
            where=str(log),
            remedy="read the whole log; exit status -9 usually means that the machine ran out of memory",
        )
    if "error" in result:
        failed = result["error"]
        raise _error_class(failed["type"])(failed["what"], where=failed["where"] or str(log), remedy=failed["remedy"])
    return result


def _result_in(folder: Path) -> dict[str, Any] | None:
    """What a worker wrote. Of several that work together one may fail only since another did: that one's error counts,
    which is of a type that somebody foresaw."""
    results = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob(f"{RESULT}*.json"))]

    def unforeseen(result: dict[str, Any]) -> bool:
        return bool(result.get("error", {}).get("type") == WorkerError.__name__)

    failed = sorted((result for result in results if "error" in result), key=unforeseen)
    return next(iter([*failed, *results]), None)


def _event(line: str) -> dict[str, Any] | None:
    """The event of a line, also where a progress bar wrote before it without an end of line; None of other lines."""
    _, _, text = line.partition(EVENT_PREFIX)
    try:
        event = json.loads(text)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None


def _lines_until(output: Any, process: subprocess.Popen[str], deadline: float) -> Iterator[str]:
    """Lines of a pipe until it closes, its process is gone, or the deadline has passed."""
    with selectors.DefaultSelector() as selector:
        selector.register(output, selectors.EVENT_READ)
        buffer = b""
        while time.monotonic() <= deadline:
            if not selector.select(timeout=0.5):
                if process.poll() is not None:
                    break
                continue
            chunk = os.read(output.fileno(), 65536)
            if not chunk:
                break
            *lines, buffer = (buffer + chunk).split(b"\n")
            for line in lines:
                yield line.decode("utf-8", errors="replace") + "\n"
        if buffer:
            yield buffer.decode("utf-8", errors="replace") + "\n"


def _error_class(name: str) -> type[RetuneError]:
    found = getattr(errors, name, None)
    return found if isinstance(found, type) and issubclass(found, RetuneError) else ChildError


def emit(**event: Any) -> None:
    """Send an event from a worker to its parent; of processes that train together only the first speaks."""
    if os.environ.get("RANK", "0") != "0":
        return
    print(EVENT_PREFIX + json.dumps(event), flush=True)


def worker_main(work: Callable[[dict[str, Any]], dict[str, Any] | None]) -> None:
    """The body of a worker's ``__main__``: read the job, do it, write its result, if any, or the typed error."""
    job_file = Path(sys.argv[1])
    number = os.environ.get("RANK", "0")
    result_file = job_file.with_name(f"{RESULT}.json" if number == "0" else f"{RESULT}-{number}.json")
    try:
        result = work(json.loads(job_file.read_text(encoding="utf-8")))
    except RetuneError as error:
        failed = {"type": type(error).__name__, "what": error.what, "where": error.where, "remedy": error.remedy}
        write_json(result_file, {"error": failed})
        raise SystemExit(1) from error
    except Exception as error:
        # A child that dies without a result was killed, and can be tried again; this one would fail again.
        failed = {
            "type": WorkerError.__name__,
            "what": f"{type(error).__name__}: {error}",
            "where": "",
            "remedy": "the log has the traceback",
        }
        write_json(result_file, {"error": failed})
        raise
    if result is not None:
        write_json(result_file, result)
