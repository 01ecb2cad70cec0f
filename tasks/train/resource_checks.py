"""Checks before a training starts: target modules, left-over processes, room on disk and in memory."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import psutil

from tasks.core.base_model import require_allowed_code
from tasks.core.config import ModelSource
from tasks.core.errors import MachineError, ModelError
from tasks.core.files import require_free_space
from tasks.core.home import Home, recipe_of_night
from tasks.core.merging.trained import ROOM_FACTOR
from tasks.core.processes import emit, survivors
from tasks.train.checkpoints import kept
from tasks.train.config import TrainConfig
from tasks.train.devices import MIB, MemoryDevice, devices_present, local_rank, training_device
from tasks.train.memory import MemoryEstimate, training_memory
from tasks.train.model_shape import ModelShape, empty_model, model_shape, read_config
from tasks.train.target_modules import is_known_family, target_modules

ROOM = 300 * MIB
STORED_BYTES = 2  # of a parameter in a 16-bit model's files
SHORT_ROW = 64  # tokens
MEMORY_WORDS = (
    "out of memory", "can't allocate memory", "cannot allocate memory", "alloc_failed",
    "could not create a memory object",
)  # fmt: skip
GPU_PROGRAMS = ["nvidia-smi", "--query-compute-apps=pid,process_name,used_memory", "--format=csv,noheader"]


def check_target_modules(model: ModelSource, train: TrainConfig) -> None:
    """Raise a ModelError, before anything starts, if a model lacks layers that a recipe names.

    The training checks it instead if the config is not local, needs the model's own code, or cannot be built.
    """
    wanted = train.target_modules
    if not train.training_method.is_low_rank or wanted == "all-linear" or model.trust_remote_code:
        return
    try:
        config = read_config(model)
        if wanted == "family" and is_known_family(str(config["model_type"])):
            return
        _, empty = empty_model(config)
    except Exception:  # architectures raise errors of any type for configs they cannot build
        return
    target_modules(empty, train)


def require_quiet_machine() -> None:
    """Raise a MachineError while processes of an earlier stage are alive: they hold memory that training needs."""
    if alive := survivors():
        named = ", ".join(f"{process.pid} ({process.name()})" for process in alive)
        what = f"Processes of an earlier stage are still alive: {named}"
        remedy = "end them by their ids and run again; finished stages are kept"
        raise MachineError(what, where="before training", remedy=remedy)


def require_room(work: Path, config: TrainConfig, model: ModelSource, parameters: int | None) -> None:
    """Check that the disk of ``work`` can hold the checkpoints (those kept, one being written) and the merged model.

    ``parameters`` counts those of a base whose files are not local. Raises a MachineError.
    """
    size = (parameters or 0) * STORED_BYTES
    if model.is_local:
        size = sum(path.stat().st_size for path in Path(model.path).glob("*.safetensors"))
    checkpoint = int(size * config.training_method.checkpoint_factor)
    needed = ROOM + checkpoint * (kept(config) + 1) + ROOM_FACTOR * size
    require_free_space(work, needed, "checkpoints and the merged model")


def shape_of(config: TrainConfig, model: ModelSource) -> ModelShape | None:
    """The model's shape from its config; None, with a note, if the config is not enough."""
    try:
        return model_shape(_config_of(model), config)
    except ModelError as error:
        emit(note=f"the memory was not planned: {error.what}")
        return None


def require_memory(config: TrainConfig, shape: ModelShape) -> None:
    """Raise a MachineError, before weights are loaded, unless free memory can hold the model and a short row."""
    device = device_here()
    planned = _planned(config, shape, device, tokens=SHORT_ROW, rows=1)
    least = planned.needed - planned.allocator - _already_used(device)
    if least > device.free:
        free = f"{_mib(device.free)} of {_mib(device.total)}"
        what = f"Training needs at least {_mib(least)} of memory, and {free} are free"
        plan = Home.from_environment().command("plan", recipe=recipe_of_night())
        remedy = f"{_gpu_programs(device)}use a smaller model, or method qlora; {plan} shows the parts"
        raise MachineError(what, where=device.name, remedy=remedy)


def warn_if_batches_may_not_fit(config: TrainConfig, shape: ModelShape, longest: int) -> None:
    """Note that a batch of rows of ``longest`` tokens may not fit; the training divides it if necessary."""
    device = device_here()
    needed = _planned(config, shape, device, tokens=longest, rows=None).needed - _already_used(device)
    if needed > device.free:
        memory = f"{_mib(needed)} of memory, and {_mib(device.free)} are free"
        emit(note=f"batches of {config.batch_size} may need {memory}: they are divided if that is too little")


def require_embeddings(model: Any, rows: Iterable[Sequence[int]], where: str) -> None:
    """Raise a ModelError if a row holds a token without an embedding, which a model would end the training with."""
    table = model.get_input_embeddings().num_embeddings
    largest = max(max(ids) for ids in rows)
    if largest >= table:
        what = f"The chat template or the data write token {largest}, and the model has {table} embeddings"
        remedy = "use the tokenizer that belongs to the weights, or another train.chat_template"
        raise ModelError(what, where=where, remedy=remedy)


def warn_if_ends_never_learned(model: Any, tokenizer: Any, config: TrainConfig, ends: Sequence[int]) -> None:
    """Note an end of turn that the base never learned: its row in the embeddings or the head is zero, or another's too.

    A low-rank update leaves these rows as they are, so the model hardly learns to stop.
    """
    if config.training_method.trains_all_weights or local_rank() > 0:
        return
    layers = (model.get_input_embeddings(), model.get_output_embeddings())
    for table in (layer.weight for layer in layers if layer is not None and layer.weight.is_floating_point()):
        for end in ends:
            row = table[end]
            alike = table[table[:, 0] == row[0]]
            if not bool(row.any()) or int((alike == row).all(dim=1).sum()) > 1:
                token = tokenizer.convert_ids_to_tokens(end)
                advice = "use a chat_template whose end of turn the base knows (such as alpaca), or method full"
                emit(note=f"warning: the base never learned {token}, which ends a turn: it may not stop; {advice}")
                return


def device_here() -> MemoryDevice:
    import torch

    if not torch.cuda.is_available():
        return training_device(devices_present())
    free, total = torch.cuda.mem_get_info(local_rank())
    return MemoryDevice(torch.cuda.get_device_name(local_rank()), "cuda", total, free)


def is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or any(words in str(error).lower() for words in MEMORY_WORDS)


def out_of_memory_kills() -> int:
    """How many processes the kernel killed for lack of memory (/proc/vmstat, Linux 4.13 and later); 0 if unknown."""
    try:
        counters = Path("/proc/vmstat").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in counters if line.startswith("oom_kill ")), 0)


def _planned(
    config: TrainConfig, shape: ModelShape, device: MemoryDevice, tokens: int, rows: int | None
) -> MemoryEstimate:
    return training_memory(shape, config.model_copy(update={"max_length": tokens}), device.kind, rows)


def _already_used(device: MemoryDevice) -> int:
    return int(psutil.Process().memory_info().rss) if device.kind == "cpu" else 0


def _config_of(model: ModelSource) -> dict[str, object]:
    from transformers import AutoConfig

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


def _gpu_programs(device: MemoryDevice) -> str:
    if device.kind == "cpu" or not shutil.which(GPU_PROGRAMS[0]):
        return ""
    listed = subprocess.run(GPU_PROGRAMS, capture_output=True, text=True, check=False).stdout.splitlines()
    return f"its memory is held by {'; '.join(listed)}: end them, or " if listed else ""


def _mib(size: int) -> str:
    return f"{size // MIB:,} MiB"
