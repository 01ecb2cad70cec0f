"""``retune doctor``: what is installed, which devices there are, whether vLLM starts, how much disk is free."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

import psutil

from flows.recipe.read import read_recipe
from tasks.core.config import ModelSource
from tasks.core.errors import RetuneError
from tasks.core.home import PROJECT_ROOT, Home
from tasks.core.models import check_model
from tasks.core.vllm.server import serving, vllm_version

PACKAGES = (
    "prefect",
    "torch",
    "transformers",
    "trl",
    "peft",
    "bitsandbytes",
    "unsloth",
    "datasets",
    "pandas",
    "great-expectations",
    "mlflow",
)
SEEDLING = PROJECT_ROOT / "seedling" / "model"
ENOUGH_DISK_GIB = 5


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's table."""

    what: str
    state: str
    ok: bool
    remedy: str = ""


def examine(home: Home, start_vllm: bool) -> list[Finding]:
    """Look at everything a night needs; ``start_vllm`` also starts the server on the seedling (about half a minute)."""
    findings = [*map(_package, PACKAGES), _vllm(), _device(), _memory(), _disk(home), *_recipes(), _seedling()]
    if start_vllm:
        findings.append(_vllm_starts(home))
    return findings


def _package(name: str) -> Finding:
    try:
        return Finding(name, importlib.metadata.version(name), True)
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, "missing", False, "make setup")


def _attempt(what: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(what, look(), True)
    except RetuneError as error:
        return Finding(what, f"{error.what} ({error.where})", False, error.remedy)


def _vllm() -> Finding:
    return _attempt("vLLM's environment", vllm_version)


def _device() -> Finding:
    if not shutil.which("nvidia-smi"):
        return Finding("device", f"CPU only, {os.cpu_count()} cores", True)
    query = ["nvidia-smi", "--query-gpu=name,memory.total,memory.free", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, check=False)
    if done.returncode:
        return Finding("device", "nvidia-smi fails", False, "see what nvidia-smi prints; check the driver")
    return Finding("device", done.stdout.strip().replace("\n", "; "), True)


def _memory() -> Finding:
    memory = psutil.virtual_memory()
    return Finding("memory", f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB free", True)


def _disk(home: Home) -> Finding:
    existing = next(path for path in (home.root, *home.root.parents) if path.exists())
    free = shutil.disk_usage(existing).free / 2**30
    remedy = "free some space, or point RETUNE_HOME at a larger disk"
    return Finding("disk", f"{free:.0f} GiB free at {existing}", free >= ENOUGH_DISK_GIB, remedy)


def _recipes() -> list[Finding]:
    def look(name: str) -> Callable[[], str]:
        return lambda: f"{read_recipe(name).name}: well-formed"

    names = sorted(path.stem for path in (PROJECT_ROOT / "deployments" / "recipes").glob("*.yaml"))
    return [_attempt(f"recipe {name}", look(name)) for name in names]


def _seedling() -> Finding:
    def look() -> str:
        check_model(ModelSource(path=str(SEEDLING)))
        return "complete"

    return _attempt("seedling", look)


def _vllm_starts(home: Home) -> Finding:
    def look() -> str:
        settings = read_recipe("embedded").evaluate.server
        with serving(ModelSource(path=str(SEEDLING)), settings, log=home.logs / "doctor-vllm.log"):
            return "starts and answers"

    return _attempt("vLLM on the seedling", look)
