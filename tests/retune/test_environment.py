"""Libraries log to a file: the terminal of a run shows Retune's own lines only."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from retune.environment import LIBRARY_LOG
from tasks.core.home import PROJECT_ROOT

RUN = """
import logging, pathlib, sys, warnings
from retune.environment import log_libraries_to_file, prepare_environment
from tasks.core.home import Home
home = Home(pathlib.Path(sys.argv[1]))
prepare_environment(home)
import prefect
log_libraries_to_file(home)
from flows.night.generation_metrics import log_generation
log_generation(home, "run", "mine", {"asked": 3})
logging.getLogger("some.library").warning("a log record")
warnings.warn("a warning of Python")
"""


def test_mlflow_s_database_and_warnings_of_libraries_do_not_reach_the_terminal(tmp_path: Path) -> None:
    command = [sys.executable, "-c", RUN, str(tmp_path)]
    done = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
    log = (tmp_path / "logs" / LIBRARY_LOG).read_text(encoding="utf-8")
    assert "WARNING some.library: a log record" in log and "a warning of Python" in log
