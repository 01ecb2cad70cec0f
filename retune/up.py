"""``retune up``: server, work pool, deployments and worker on one machine, until Ctrl-C."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time

from retune.prefect_server import OWN_LOG, announced, prefect_server
from tasks.core.child_logs import cause_in, new_log
from tasks.core.errors import MachineError
from tasks.core.home import PROJECT_ROOT, Home
from tasks.core.processes import running
from tasks.core.progress import say

POOL = "retune"
PREFECT = [sys.executable, "-m", "prefect", "--no-prompt"]
POLL_SECONDS = 1.0


def serve(home: Home, port: int) -> None:
    """Serve until interrupted, then end every child process.

    Raises MachineError: the port is in use, deploying fails, or the server or the worker ends.
    """
    with prefect_server(home, port, interface=True) as server, announced(home, server.url):
        from flows.night.dead_runs import end_dead_runs_of_server  # Prefect reads the server's address when imported

        say("creating the work pool and the deployments")
        _prefect(home, "work-pool", "create", POOL, "--type", "process", "--overwrite")
        _prefect(home, "deploy", "--prefect-file", "deployments/prefect.yaml", "--all")
        end_dead_runs_of_server(home)
        log = new_log(home.logs / "prefect-worker.log")
        command = [*PREFECT, "worker", "start", "--pool", POOL, "--name", "retune-up"]
        with running(command, log=log, environment=OWN_LOG) as worker:
            say(f"ready: {server.url.removesuffix('/api')} shows runs and schedules; Ctrl-C ends it")
            say(f"on demand, from another shell:\n  export PREFECT_API_URL={server.url}")
            say("  prefect deployment run 'nightly-retraining/embedded' --watch")
            with contextlib.suppress(KeyboardInterrupt):
                while worker.poll() is None and server.process.poll() is None:
                    time.sleep(POLL_SECONDS)
                ended, file = ("worker", log) if server.process.poll() is None else ("server", server.log)
                raise MachineError(f"The {ended} ended; {cause_in(file)}", where=str(file), remedy="run it again")
        say("ended")


def _prefect(home: Home, *arguments: str) -> None:
    log = home.logs / "prefect-deploy.log"
    done = subprocess.run(
        [*PREFECT, *arguments], cwd=PROJECT_ROOT, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    with log.open("a", encoding="utf-8") as file:
        file.write(done.stdout + done.stderr)
    if done.returncode:
        raise MachineError(
            f"prefect {' '.join(arguments)} failed; {cause_in(log)}",
            where=str(log),
            remedy="correct deployments/prefect.yaml",
        )
