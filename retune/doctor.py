"""``retune doctor``: what is installed, which devices there are, whether vLLM starts, how much disk is free."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import psutil
from rich.markup import escape
from rich.table import Table

from flows.recipe.read import read_recipe
from retune.terminal import out
from tasks.core.config import ModelSource
from tasks.core.errors import RetuneError
from tasks.core.home import PROJECT_ROOT, Home
from tasks.core.models import check_model
from tasks.core.vllm.server import serving, vllm_version

PACKAGES = (
    "prefect", "torch", "transformers", "trl", "peft", "bitsandbytes", "unsloth", "datasets", "pandas",
    "great-expectations", "mlflow",
)  # fmt: skip
SEEDLING = ModelSource(path=str(PROJECT_ROOT / "seedling" / "model"))
ENOUGH_DISK_GIB = 5


@dataclass(frozen=True)
class Check:
    """One line of the doctor's table."""

    what: str
    state: str
    ok: bool
    remedy: str = ""


def examine(home: Home, start_vllm: bool) -> list[Check]:
    """Check everything a night needs; ``start_vllm`` also starts the server on the seedling (about half a minute)."""
    recipes = sorted(path.stem for path in (PROJECT_ROOT / "deployments" / "recipes").glob("*.yaml"))
    checks = [
        *map(_package, PACKAGES),
        _attempt("vLLM's environment", vllm_version),
        _device(),
        _memory(),
        _disk(home),
        *(_attempt(f"recipe {name}", partial(_recipe, name)) for name in recipes),
        _attempt("seedling", _seedling),
    ]
    return [*checks, _attempt("vLLM on the seedling", partial(_start_vllm, home))] if start_vllm else checks


def print_checks(checks: Sequence[Check]) -> None:
    """Print a line for each check, with the remedy of those that failed."""
    table = Table("", "what", "state", "remedy")
    for check in checks:
        mark = "[green]ok[/]" if check.ok else "[red]bad[/]"
        table.add_row(mark, check.what, escape(check.state), "" if check.ok else escape(check.remedy))
    out.print(table)


def _package(name: str) -> Check:
    try:
        return Check(name, importlib.metadata.version(name), True)
    except importlib.metadata.PackageNotFoundError:
        return Check(name, "missing", False, "make setup")


def _attempt(what: str, look: Callable[[], str]) -> Check:
    try:
        return Check(what, look(), True)
    except RetuneError as error:
        return Check(what, f"{error.what} ({error.where})", False, error.remedy)


def _device() -> Check:
    if not shutil.which("nvidia-smi"):
        return Check("device", f"CPU only, {os.cpu_count()} cores", True)
    query = ["nvidia-smi", "--query-gpu=name,memory.total,memory.free", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, check=False)
    if done.returncode:
        return Check("device", "nvidia-smi fails", False, "see what nvidia-smi prints; check the driver")
    return Check("device", done.stdout.strip().replace("\n", "; "), True)


def _memory() -> Check:
    memory = psutil.virtual_memory()
    return Check("memory", f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB free", True)


def _disk(home: Home) -> Check:
    existing = next(path for path in (home.root, *home.root.parents) if path.exists())
    free = shutil.disk_usage(existing).free / 2**30
    remedy = "free some space, or point RETUNE_HOME at a larger disk"
    return Check("disk", f"{free:.0f} GiB free at {existing}", free >= ENOUGH_DISK_GIB, remedy)


def _recipe(name: str) -> str:
    return f"{read_recipe(name).name}: well-formed"


def _seedling() -> str:
    check_model(SEEDLING)
    return "complete"


def _start_vllm(home: Home) -> str:
    settings = read_recipe("embedded").evaluate.server
    with serving(SEEDLING, settings, log=home.logs / "doctor-vllm.log"):
        return "starts and answers"
