"""A training that over-fits, and what stops it: .venv/bin/python -m benchmarks.over_fitting MODEL TRAINING_SET

MODEL is a folder in Hugging Face layout with a ChatML template, TRAINING_SET a night's ``training_set.parquet`` (its
artifact of ``validate``), whose rows have a system turn. The train stage learns few of its rows for many steps, once
with ``keep: last`` and once with early stopping and ``keep: best``; both set the same documents aside for validation.
The loss of the rows of documents that neither run has seen decides: it is that of the adapter on the base in float32.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.arms.train_arm import loss_of
from benchmarks.arms.train_rows import chatml_tokenizer, tokenise
from flows.report.training_lines import train_lines
from tasks.core.artifacts import ArtifactRef
from tasks.core.config import ModelSource
from tasks.core.details import TrainDetails
from tasks.core.home import Home
from tasks.core.stage import run_stage
from tasks.train.config import TrainConfig
from tasks.train.train import TrainJob

UNSEEN = 200
SEED = 3407


def write_few(folder: Path, training_set: Path, model: Path, count: int) -> tuple[ArtifactRef, Path]:
    """About ``count`` rows of random documents as a training set, and at most UNSEEN rows of others, tokenised."""
    frame = pd.read_parquet(training_set)
    documents = pd.Series(frame["document_id"].unique()).sample(frac=1, random_state=SEED)
    sizes = frame["document_id"].value_counts()[documents].cumsum()
    few = frame["document_id"].isin(sizes.index[sizes <= count])
    frame[few].to_parquet(folder / "training_set.parquet", index=False)
    tokenizer = chatml_tokenizer(model)
    plain = [
        [{name: turn[name] for name in ("role", "content")} for turn in turns]
        for turns in frame[~few]["messages"].head(UNSEEN)
    ]
    rows = [tokenise(tokenizer, turns) for turns in plain]
    unseen = folder / "unseen.json"
    unseen.write_text(json.dumps({key: [row[key] for row in rows] for key in ("input_ids", "labels")}), "utf-8")
    return ArtifactRef("validate", "few", str(folder), f"few-{count}", int(few.sum())), unseen


def unseen_loss(model: Path, adapter: Path | None, unseen: Path) -> float:
    """Loss of the unseen rows in nats per trained token, of the base or of an adapter on it."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    loaded: Any = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    return loss_of(PeftModel.from_pretrained(loaded, adapter) if adapter else loaded, unseen)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("training_set", type=Path)
    parser.add_argument("--rows", type=int, default=160)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--save-steps", type=int, default=10)
    parser.add_argument("--patience", type=int, default=3)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--method", default="qlora")
    parser.add_argument("--max-length", type=int, default=256)
    options = parser.parse_args()
    os.environ.setdefault(
        "OMP_WAIT_POLICY", "PASSIVE"
    )  # as in the stage's worker: spinning threads wait for busy cores
    common: dict[str, Any] = {
        "method": options.method,
        "target_modules": "all-linear",
        "batch_size": 16,
        "accumulation_steps": 1,
        "max_steps": options.steps,
        "save_steps": options.save_steps,
        "learning_rate": options.learning_rate,
        "max_length": options.max_length,
        "validation_fraction": 0.25,
        "timeout_minutes": 240,
    }
    runs = {
        "keep: last": common,
        "early stopping, keep: best": common | {"early_stopping": {"patience": options.patience}, "keep": "best"},
    }
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        rows, unseen = write_few(folder, options.training_set, options.model, options.rows)
        source = ModelSource(path=str(options.model.resolve()))
        lines = ["| run | steps | kept | validation loss, lowest | at the end | loss of unseen rows | minutes |"]
        lines.append("|---|" + "---:|" * 6)
        lines.append(f"| base | 0 | - | - | - | {unseen_loss(options.model, None, unseen):.3f} | - |")
        for name, settings in runs.items():
            started = time.monotonic()
            done = run_stage(TrainJob(TrainConfig(**settings), source, rows, SEED), Home(folder / "home"), "run").ref
            minutes = (time.monotonic() - started) / 60
            found = done.details(TrainDetails)
            assert found.validation is not None
            loss = unseen_loss(options.model, done.folder / "adapter", unseen)
            lowest, final = (found.validation.losses[name] for name in ("lowest", "final"))
            losses = f"{lowest:.3f} | {final:.3f} | {loss:.3f}"
            lines.append(f"| {name} | {found.steps} | {found.validation.kept_step} | {losses} | {minutes:.1f} |")
            print("\n".join([f"{name}:", *train_lines(found), ""]), flush=True)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
