"""What only a GPU shows. Each backend is probed in a process of its own, as Unsloth patches the other's libraries."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
BACKENDS = ("transformers", "unsloth")
NEEDED = ("torch", "transformers", "trl", "peft", "bitsandbytes", "unsloth")


def why_no_gpu() -> str:
    """The reason to skip, or nothing."""
    from importlib.util import find_spec

    if missing := [name for name in NEEDED if find_spec(name) is None]:
        return f"not installed: {', '.join(missing)}"
    import torch

    return "" if torch.cuda.is_available() else "no GPU"


@pytest.fixture(scope="session")
def probed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """By backend what tests/gpu/probes.py found; both run at once."""
    if reason := why_no_gpu():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("gpu")
    running: dict[str, tuple[subprocess.Popen[bytes], Path]] = {}
    for backend in BACKENDS:
        place = folder / backend
        (place / "tmp").mkdir(parents=True)
        settings = {
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "UNSLOTH_DISABLE_STATISTICS": "1",
            "UNSLOTH_COMPILE_LOCATION": str(place / "unsloth_compiled_cache"),
            "HF_DATASETS_CACHE": str(place / "datasets"),
            "TMPDIR": str(place / "tmp"),
        }
        searched = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        log = (place / "log").open("wb")
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.gpu.probes", backend, str(place)],
            cwd=ROOT,
            env={**os.environ, **settings, "PYTHONPATH": searched},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        running[backend] = process, place
    found: dict[str, dict[str, Any]] = {}
    for backend, (process, place) in running.items():
        process.wait()
        results = place / "found.json"
        found[backend] = json.loads(results.read_text(encoding="utf-8")) if results.is_file() else {}
        found[backend]["log"] = (place / "log").read_text(encoding="utf-8", errors="replace")[-4000:]
    return found


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)
