"""What must hold before a training starts: a machine that is quiet, and room on disk and in memory."""

from __future__ import annotations

from pathlib import Path

from tasks.core.config import ModelSource
from tasks.core.errors import MachineError
from tasks.core.files import require_free_space
from tasks.core.processes import survivors
from tasks.train.checkpoints import KEPT
from tasks.train.config import TrainConfig

ROOM = 300 * 2**20
HUB_MODEL_BYTES = 2 * 2**30
CHECKPOINT_SHARE = 0.5
FULL_CHECKPOINT_FACTOR = 6
MERGE_FACTOR = 2


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


def out_of_memory_kills() -> int:
    """How many processes the kernel has ended for want of memory since it started; 0 where it does not say.

    Source: ``oom_kill`` in /proc/vmstat, Linux 4.13 and later.
    """
    try:
        counters = Path("/proc/vmstat").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in counters if line.startswith("oom_kill ")), 0)
