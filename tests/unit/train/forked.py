"""Trainings in real processes that cost no imports: forked from a server that has the libraries loaded already."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import sys
import time
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

from tasks.core.artifacts import ArtifactRef
from tasks.core.files import folder_digests
from tasks.train.config import TrainConfig

PRELOADED = "tests.unit.train.preloaded"
PATIENCE_SECONDS = 300.0


def new_job(config: TrainConfig, folder: Path, model: Path, training_set: ArtifactRef, store: Path) -> dict[str, Any]:
    """What the worker is given; it works and writes in ``folder``, and tracks in the SQLite file ``store``."""
    for name in ("work", "out"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    return {
        "config": config.model_dump(mode="json"),
        "model": {"path": str(model)},
        "seed": 7,
        "training_set": str(training_set.folder / "training_set.parquet"),
        "out": str(folder / "out"),
        "work": str(folder / "work"),
        "mlflow": {"uri": f"sqlite:///{store}", "experiment": "retune", "name": folder.name},
    }


def adapter(job: dict[str, Any]) -> dict[str, str]:
    """The digests of the adapter that a job wrote."""
    return folder_digests(Path(job["out"]) / "adapter")


def context() -> ForkServerContext:
    """Where processes are forked from; its server ends with this process."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload([PRELOADED])
    return found


def work_on(job: dict[str, Any], log: str) -> None:
    """The body of a forked process: what ``python -m tasks.train.worker`` does, with its output in a file."""
    with Path(log).open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    from tasks.train.worker import StopRequest, train

    result = train(job, StopRequest.on_sigterm())
    Path(job["work"], "result.json").write_text(json.dumps(result), encoding="utf-8")


def run(job: dict[str, Any], log: Path) -> dict[str, Any]:
    """Train to the end, undisturbed."""
    process = context().Process(target=work_on, args=(job, str(log)))
    process.start()
    process.join(PATIENCE_SECONDS)
    assert process.exitcode == 0, log.read_text(encoding="utf-8", errors="replace")[-3000:]
    result: dict[str, Any] = json.loads(Path(job["work"], "result.json").read_text(encoding="utf-8"))
    return result


def run_and_signal(job: dict[str, Any], log: Path, step: int, delay: float, number: int = signal.SIGKILL) -> int:
    """Train until so many steps were logged and some seconds more have passed, then send a signal; the exit code."""
    process = context().Process(target=work_on, args=(job, str(log)))
    process.start()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while process.is_alive() and steps_in(log) < step and time.monotonic() < deadline:
        time.sleep(0.005)
    process.join(delay)
    if process.is_alive() and process.pid is not None:
        os.kill(process.pid, number)
    process.join(PATIENCE_SECONDS)
    assert process.exitcode is not None
    return process.exitcode


def steps_in(log: Path) -> int:
    """The last step that a process told of."""
    if not log.is_file():
        return 0
    lines = log.read_text(encoding="utf-8", errors="replace").split("@retune ")
    events = [json.loads(line.splitlines()[0]) for line in lines[1:] if line.rstrip().endswith("}") or "\n" in line]
    return max((event["step"] for event in events if "step" in event), default=0)


def events_in(log: Path) -> list[dict[str, Any]]:
    """Everything a process told of."""
    lines = log.read_text(encoding="utf-8", errors="replace").split("@retune ")
    return [json.loads(line.splitlines()[0]) for line in lines[1:]]


def moments(seed: int, count: int, steps: int, longest: float) -> list[tuple[int, float]]:
    """Random moments of a training: a step, and seconds after it; step 0 is while the model is loaded."""
    draw = random.Random(seed)
    return [(draw.randrange(steps), draw.uniform(0, longest)) for _ in range(count)]
