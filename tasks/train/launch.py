"""How the training process is started: alone, or as several by ``accelerate launch``, one a device."""

from __future__ import annotations

import os
from collections.abc import Sequence

from tasks.train.config import TrainConfig

ALONE = ("-m",)
SHARDED = (
    "--use_fsdp", "--fsdp_version", "1", "--fsdp_sharding_strategy", "FULL_SHARD",
    "--fsdp_auto_wrap_policy", "TRANSFORMER_BASED_WRAP", "--fsdp_backward_prefetch", "BACKWARD_PRE",
    "--fsdp_state_dict_type", "FULL_STATE_DICT", "--fsdp_use_orig_params", "false",
    "--fsdp_sync_module_states", "true", "--fsdp_cpu_ram_efficient_loading", "true",
)  # fmt: skip
"""The settings that PEFT's documentation gives for QLoRA with FSDP."""


def launcher(config: TrainConfig) -> Sequence[str]:
    """Arguments of Python between its name and the training module's."""
    if config.processes == 1:
        return ALONE
    return (
        *ALONE, "accelerate.commands.launch", *(SHARDED if config.sharding == "fsdp" else ("--multi_gpu",)),
        "--num_processes", str(config.processes), "--num_machines", "1", "--main_process_port", "0",
        "--mixed_precision", "no", "--dynamo_backend", "no", "--module",
    )  # fmt: skip


def rank() -> int:
    """This process's number among those that train together; the first one writes what is written."""
    return int(os.environ.get("RANK", "0"))


def local_rank() -> int:
    """This process's number on its machine, which is that of its GPU."""
    return int(os.environ.get("LOCAL_RANK", "0"))
