"""What must hold before a training starts: a machine that is quiet, and room on disk and in memory."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from tasks.core.base_model import require_allowed_code
from tasks.core.config import ModelSource
from tasks.core.errors import MachineError, ModelError
from tasks.core.files import require_free_space
from tasks.core.merging.trained import ROOM_FACTOR
from tasks.core.processes import emit, survivors
from tasks.train.checkpoints import KEPT
from tasks.train.config import TrainConfig
from tasks.train.devices import MemoryDevice, devices_present, training_device
from tasks.train.launch import local_rank

if TYPE_CHECKING:
    from tasks.train.memory import MemoryEstimate
    from tasks.train.shapes import ModelShape

ROOM = 300 * 2**20
STORED_BYTES = 2
"""Of a parameter in a 16-bit model's files."""
MIB = 2**20
SHORT_ROW = 64
"""Tokens."""
MEMORY_WORDS = (
    "out of memory", "can't allocate memory", "cannot allocate memory", "alloc_failed",
    "could not create a memory object",
)  # fmt: skip
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


def require_room(work: Path, config: TrainConfig, model: ModelSource, parameters: int | None) -> None:
    """Stop if the disk cannot hold checkpoints and the merged model that follows.

    A checkpoint of an adapter with its optimizer state is far below half of the model; one of a full fine-tuning holds
    weights and two moments in float32, six times the 16-bit weights. The newest, the one before and the one being
    written are there at once.

    Args:
        work: folder of the checkpoints.
        config: says what a checkpoint holds.
        model: the base.
        parameters: of the base, where its files are not here to be measured.

    Raises:
        MachineError: with the numbers.
    """
    size = (parameters or 0) * STORED_BYTES
    if model.is_local:
        size = sum(path.stat().st_size for path in Path(model.path).glob("*.safetensors"))
    checkpoint = int(size * config.training_method.checkpoint_factor)
    needed = ROOM + checkpoint * (KEPT + 1) + ROOM_FACTOR * size
    require_free_space(work, needed, "checkpoints and the merged model")


def shape_of(config: TrainConfig, model: ModelSource) -> ModelShape | None:
    """The model's shape, without loading it; None, and said, where its config tells too little."""
    from tasks.train.shapes import model_shape

    try:
        return model_shape(_config_of(model), config)
    except ModelError as error:
        emit(note=f"the memory was not planned: {error.what}")
        return None


def require_memory(config: TrainConfig, shape: ModelShape) -> None:
    """Stop, before weights are loaded, if the device's free memory cannot hold the model and a short row.

    Raises:
        MachineError: with the numbers and, on a GPU, with the programs that hold its memory.
    """
    device = device_here()
    planned = _planned(config, shape, device, tokens=SHORT_ROW, rows=1)
    least = planned.needed - planned.allocator - _held(device)
    if least > device.free:
        raise MachineError(
            f"Training needs at least {_mib(least)} of memory, and {_mib(device.free)} of {_mib(device.total)}"
            " are free",
            where=device.name,
            remedy=f"{_holders(device)}use a smaller model, or method qlora; retune plan shows what takes how much",
        )


def say_if_batches_may_not_fit(config: TrainConfig, shape: ModelShape, longest: int) -> None:
    """Say that the recipe's batch of rows of ``longest`` tokens may not fit: it is divided if it does not."""
    device = device_here()
    needed = _planned(config, shape, device, tokens=longest, rows=None).needed - _held(device)
    if needed > device.free:
        emit(
            note=f"batches of {config.batch_size} may need {_mib(needed)} of memory, and {_mib(device.free)} are free:"
            " they are divided if that is too little"
        )


def device_here() -> MemoryDevice:
    """The device that this process trains on, as it sees it."""
    import torch

    if not torch.cuda.is_available():
        return training_device(devices_present())
    free, total = torch.cuda.mem_get_info(local_rank())
    return MemoryDevice(torch.cuda.get_device_name(local_rank()), "cuda", total, free)


def _planned(
    config: TrainConfig, shape: ModelShape, device: MemoryDevice, tokens: int, rows: int | None
) -> MemoryEstimate:
    from tasks.train.memory import training_memory

    return training_memory(shape, config.model_copy(update={"max_length": tokens}), device.kind, rows)


def _held(device: MemoryDevice) -> int:
    """Of the plan, what this process holds already: on a CPU its libraries, without which the rest is free."""
    return int(psutil.Process().memory_info().rss) if device.kind == "cpu" else 0


def is_out_of_memory(error: BaseException) -> bool:
    """Whether one of the libraries' many errors says that there is no more memory."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(words in text for words in MEMORY_WORDS)


def _config_of(model: ModelSource) -> dict[str, object]:
    from transformers import AutoConfig

    from tasks.train.shapes import read_config

    if model.is_local:
        return dict(read_config(model))
    require_allowed_code(model)
    try:
        settings = AutoConfig.from_pretrained(
            model.path, revision=model.revision, trust_remote_code=model.trust_remote_code
        ).to_dict()
    except (OSError, ValueError) as error:
        raise ModelError(f"The model's config cannot be read: {error}", where=model.path) from error
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
