"""Start vLLM on a CPU with two processes and with three, in turn: ``.venv/bin/python -m benchmarks.vllm_start``.

Each round starts the seedling, asks the same requests and ends the server. The answers of both must be equal.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path

import psutil

from tasks.core.config import ModelSource, ServerSettings
from tasks.core.home import PROJECT_ROOT
from tasks.core.prompts import Sampling
from tasks.core.vllm.client import ask
from tasks.core.vllm.request import Request
from tasks.core.vllm.server import serving

ROUNDS = 3
REQUESTS = 200
SEEDLING = ModelSource(path=str(PROJECT_ROOT / "seedling" / "model"))
SETTINGS = ServerSettings(dtype="float32", max_model_len=512, cpu_kv_cache_gib=0.25)
ARMS = {"two processes": "0", "three processes": "1"}
"""Values of VLLM_ENABLE_V1_MULTIPROCESSING; Retune starts two."""


def processor_seconds(root: psutil.Process) -> float:
    times = [process.cpu_times() for process in (root, *root.children(recursive=True))]
    return sum(one.user + one.system for one in times)


def measure(folder: Path) -> tuple[tuple[float, float, float], dict[str, str]]:
    """Wall and processor seconds until the server answers, processor seconds of all requests; the answers."""
    sampling = Sampling(temperature=1.0, max_tokens=48)
    wanted = [
        Request(str(number), [{"role": "user", "content": f"where is card {number}"}], sampling, seed=number)
        for number in range(REQUESTS)
    ]
    answers: dict[str, str] = {}
    started = time.perf_counter()
    with serving(SEEDLING, SETTINGS, log=folder / "vllm.log") as server:
        wall, root = time.perf_counter() - started, psutil.Process(server.process.pid)
        start = processor_seconds(root)
        ask(server, "base", wanted, concurrency=64, on_answer=lambda one: answers.update({one.request_id: one.text}))
        asking = processor_seconds(root) - start
    return (wall, start, asking), answers


def main() -> None:
    """Print the median of each arm, and their ratio."""
    found: dict[str, list[tuple[float, float, float]]] = {arm: [] for arm in ARMS}
    answers: list[dict[str, str]] = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["RETUNE_HOME"] = folder
        for _ in range(ROUNDS):
            for arm, value in ARMS.items():
                os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = value
                seconds, said = measure(Path(folder))
                found[arm].append(seconds)
                answers.append(said)
    assert all(said == answers[0] for said in answers), "the answers differ"
    medians = {arm: [statistics.median(column) for column in zip(*rows, strict=True)] for arm, rows in found.items()}
    two, three = medians.values()
    print("| | until it answers, s | processor time of it, s | processor time of the requests, s |\n|---|---|---|---|")
    for name, row in (*medians.items(), ("ratio", [a / b for a, b in zip(two, three, strict=True)])):
        print(f"| {name} | " + " | ".join(f"{value:.2f}" for value in row) + " |")


if __name__ == "__main__":
    main()
