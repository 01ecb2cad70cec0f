"""LLaMA-Factory: ``python -m benchmarks.arms.train_llamafactory READY``, in its own environment; see train_arm.py.

QLoRA with the settings of the other arms. Its template chatml renders the same tokens, and trains on the line break
after each answer besides. With packing, ``neat_packing`` keeps the rows apart.
"""

from __future__ import annotations

import json
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pyarrow.parquet as pq

from benchmarks.arms.train_arm import Round, serve

# It imports torchaudio for models that hear, and there is none for a CPU build of torch; a text model never calls it.
sys.modules["torchaudio"] = ModuleType("torchaudio")
sys.modules["torchaudio"].__spec__ = ModuleSpec("torchaudio", None)


def write_dataset(one: Round, folder: Path) -> None:
    """The rows as LLaMA-Factory takes them."""
    folder.mkdir()
    rows = pq.read_table(one.rows, columns=["messages"]).to_pylist()
    (folder / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
    described = {
        "file_name": "rows.json",
        "formatting": "sharegpt",
        "columns": {"messages": "messages"},
        "tags": tags,
    }
    (folder / "dataset_info.json").write_text(json.dumps({"rows": described}), encoding="utf-8")


def train(one: Round) -> None:
    """Train a round."""
    from llamafactory.train.tuner import run_exp

    folder = Path(one.work) / "dataset"
    write_dataset(one, folder)
    run_exp(
        {
            "stage": "sft",
            "do_train": True,
            "model_name_or_path": one.model,
            "dataset": "rows",
            "dataset_dir": str(folder),
            "template": "chatml",
            "cutoff_len": one.max_length,
            "finetuning_type": "lora",
            "lora_rank": one.rank,
            "lora_alpha": one.rank,
            "lora_target": "all",
            "quantization_method": "bnb",
            "quantization_bit": 4,
            "flash_attn": "sdpa",
            "packing": one.packing,
            "neat_packing": one.packing,
            "per_device_train_batch_size": one.batch_size,
            "gradient_accumulation_steps": one.accumulation_steps,
            "num_train_epochs": one.epochs,
            "learning_rate": one.learning_rate,
            "lr_scheduler_type": "linear",
            "warmup_steps": 5,
            "weight_decay": 0.01,
            "optim": "adamw_torch_fused",
            "disable_gradient_checkpointing": not one.checkpointing,
            "use_cpu": True,
            "seed": one.seed,
            "data_seed": one.seed,
            "logging_steps": 10,
            "disable_tqdm": True,
            "report_to": "none",
            "dataloader_pin_memory": False,
            "output_dir": str(Path(one.work) / "out"),
        }
    )


if __name__ == "__main__":
    from llamafactory.train import tuner  # noqa: F401  its import is start-up

    serve(train, Path(sys.argv[1]))
