"""What must hold before a training starts: a machine that is quiet, and room on disk and in memory."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import psutil

from tasks.core.config import ModelSource
from tasks.core.errors import MachineError, ModelError
from tasks.core.files import require_free_space
from tasks.core.processes import emit, survivors
from tasks.train.checkpoints import KEPT
from tasks.train.config import TrainConfig
from tasks.train.devices import MemoryDevice, devices_present, training_device

ROOM = 300 * 2**20
HUB_MODEL_BYTES = 2 * 2**30
CHECKPOINT_SHARE = 0.5
FULL_CHECKPOINT_FACTOR = 6
MERGE_FACTOR = 2
MIB = 2**20
GPU_PROGRAMS = ["nvidia-smi", "--query-compute-apps=pid,process_name,used_memory", "--format=csv,noheader"]


def require_quiet_machine() -> None:
    """Stop if a process that an earlier stage of this run started is still alive.

    It would hold memory, a GPU's above all, that the training counts on.

    Raises:
        MachineError: with the processes.
    """
    if alive := survivors():
        named = ", ".join(f"{process.pid} ({process.name()})" for process in alive)
        raise MachineError(
            f"Processes of an earlier stage are still alive: {named}",
            where="before training",
            remedy="end them by their ids, and run again; what is done is kept",
        )


def require_room(work: Path, config: TrainConfig, model: ModelSource) -> None:
    """Stop if the disk cannot hold checkpoints and the merged model that follows.

    A checkpoint of an adapter with its optimizer state is far below half of the model; one of a full fine-tuning holds
    weights and two moments in float32, six times the 16-bit weights. The newest, the one before and the one being
    written are there at once.

    Raises:
        MachineError: with the numbers.
    """
    size = HUB_MODEL_BYTES
    if model.is_local:
        size = sum(path.stat().st_size for path in Path(model.path).glob("*.safetensors"))
    checkpoint = size * (FULL_CHECKPOINT_FACTOR if config.method == "full" else CHECKPOINT_SHARE)
    needed = ROOM + int(checkpoint * (KEPT + 1)) + MERGE_FACTOR * size
    require_free_space(work, needed, "checkpoints and the merged model")


def require_memory(config: TrainConfig, model: ModelSource) -> None:
    """Stop, before weights are loaded, if the device's free memory cannot hold the training even a row at a time.

    What is less sure, that the recipe's batch fits, is only said: a batch that does not is divided while it trains. A
    model whose config tells the planner too little is not held up.

    Raises:
        MachineError: with the numbers and, on a GPU, with the programs that hold its memory.
    """
    from tasks.train.memory import training_memory
    from tasks.train.shapes import model_shape

    try:
        shape = model_shape(_config_of(model), config)
    except ModelError as error:
        emit(note=f"the memory was not planned: {error.what}")
        return
    device = training_device(devices_present())
    # On a CPU this process holds its libraries already, and what is free is so without them.
    held = psutil.Process().memory_info().rss if device.kind == "cpu" else 0
    smallest, whole = (training_memory(shape, config, device.kind, rows) for rows in (1, None))
    least, planned = smallest.needed - smallest.allocator - held, whole.needed - held
    if least > device.free:
        raise MachineError(
            f"Training needs at least {_mib(least)} of memory, and {_mib(device.free)} of {_mib(device.total)}"
            " are free",
            where=device.name,
            remedy=f"{_holders(device)}use a smaller model, a shorter train.max_length, or method qlora;"
            " retune plan shows what takes how much",
        )
    if planned > device.free:
        emit(
            note=f"batches of {config.batch_size} may need {_mib(planned)} of memory, and {_mib(device.free)} are free:"
            " they are divided if that is too little"
        )


def _config_of(model: ModelSource) -> dict[str, object]:
    from transformers import AutoConfig

    from tasks.train.shapes import read_config

    if model.is_local:
        return dict(read_config(model))
    settings = AutoConfig.from_pretrained(
        model.path, revision=model.revision, trust_remote_code=model.trust_remote_code
    ).to_dict()
    return {name: value for name, value in settings.items() if name != "architectures"}


def _holders(device: MemoryDevice) -> str:
    """The programs that hold the GPU's memory, as nvidia-smi lists them."""
    if device.kind == "cpu" or not shutil.which(GPU_PROGRAMS[0]):
        return ""
    listed = subprocess.run(GPU_PROGRAMS, capture_output=True, text=True, check=False).stdout.splitlines()
    return f"its memory is held by {'; '.join(listed)}: end them, or " if listed else ""


def _mib(size: int) -> str:
    return f"{size // MIB:,} MiB"


def out_of_memory_kills() -> int:
    """How many processes the kernel has ended for want of memory since it started; 0 where it does not say.

    Source: ``oom_kill`` in /proc/vmstat, Linux 4.13 and later.
    """
    try:
        counters = Path("/proc/vmstat").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in counters if line.startswith("oom_kill ")), 0)
