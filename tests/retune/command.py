"""Run the ``retune`` command as users do: in this process, which is fast, or as a process of its own."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
from pathlib import Path
from unittest import mock

from retune.main import main
from tasks.core.home import PROJECT_ROOT

Done = subprocess.CompletedProcess[str]


def retune(home: Path, *arguments: str) -> Done:
    """Call the command's entry point; its environment, arguments and signal handlers are put back afterwards."""
    out, err = io.StringIO(), io.StringIO()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with (
        mock.patch.dict(os.environ, {"RETUNE_HOME": str(home), "COLUMNS": "100"}),
        mock.patch.object(sys, "argv", ["retune", *arguments]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else 1
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    return Done(arguments, status, out.getvalue(), err.getvalue())


def retune_process(home: Path, *arguments: str) -> Done:
    """Start the command as a process of its own, and wait for it."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return subprocess.run(
        [sys.executable, "-m", "retune", *arguments],
        cwd=PROJECT_ROOT,
        env={**inherited, "RETUNE_HOME": str(home), "COLUMNS": "100"},
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
