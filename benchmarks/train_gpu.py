"""The train stage beside the plain stack on a GPU: python -m benchmarks.train_gpu [--rounds N] [--budget-seconds S]

Needs, beyond PyTorch with CUDA and Triton: transformers, accelerate, peft, trl, datasets, bitsandbytes, unsloth,
unsloth_zoo (with cut_cross_entropy, torchao, tyro, msgspec, hf_transfer, structlog, json5, nest_asyncio), pydantic,
pyarrow, pandas, psutil, regex, PyYAML; xformers if it is there; all in the versions of
deployments/environments/main-gpu.txt. Neither vLLM, Prefect nor MLflow; where MLflow is missing, nothing is tracked.

QLoRA (NF4, rank 16, all linear layers, bfloat16, adamw_8bit, activations recomputed) of a random Qwen2 of 508 million
parameters with a vocabulary of 151,936, built here; nothing is downloaded. Rows of mixed length, once over all of them:
the plain stack (transformers + PEFT + bitsandbytes + TRL with SDPA, benchmarks/arms/train_plain.py), and this stage by
its backend transformers and by Unsloth; each without packing (micro-batches of 8 random rows) and with it (of 4
sequences of 1,024 tokens, with about as many rows and so about as many steps). Arms, clock and table are those of
benchmarks/train.py; a warm-up round, in which Triton and torch.compile build their kernels, is reported separately.
Peak memory is what PyTorch reserved while training. Held-out loss says that the arms learn alike, not that they learn
well: the base is random.

The sizes are arguments. With their defaults it takes about 12 minutes on an H100 (one round of three was seen, in 6);
after ``--budget-seconds`` no round is begun, and the table has the whole rounds until then.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.arms.train_rows import write_model, write_rows
from benchmarks.train import STAGE, UNSLOTH, Plan, new_arms, take_turns
from benchmarks.train_report import PLAIN, check_tokens, describe, report

SHAPE = {
    "vocab_size": 151_936,
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "max_position_embeddings": 4096,
}


def versions() -> str:
    """The card and the libraries, in a line."""
    from importlib.metadata import version

    import torch

    names = ("transformers", "trl", "peft", "bitsandbytes", "unsloth", "triton")
    found = ", ".join(f"{name} {version(name)}" for name in names)
    return f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {found}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=240)
    parser.add_argument("--warm-up-rows", type=int, default=64)
    parser.add_argument("--layers", type=int, default=SHAPE["num_hidden_layers"])
    parser.add_argument("--budget-seconds", type=float, default=1200)
    parser.add_argument("--record", type=Path, help="where all measurements go, as JSON")
    options = parser.parse_args()
    began = time.monotonic()
    arms = {name: arm for name, arm in new_arms().items() if name in (PLAIN, STAGE, UNSLOTH)}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        parameters = write_model(folder / "model", {**SHAPE, "num_hidden_layers": options.layers}, seed=0)
        sizes: dict[str, Any] = {"median": 44, "max_length": 1024, "batch_size": 8, "seed": 0}
        rows = write_rows(folder, options.rows, **sizes)
        plan = Plan(
            model=folder / "model",
            rows=rows,
            warm_up=write_rows(folder, options.warm_up_rows, **sizes),
            rounds=options.rounds,
            batch_size=(8, 4),
            accumulation_steps=(2, 1),
            max_length=1024,
            rank=16,
            learning_rate=2e-4,
            checkpointing=True,
            deadline=began + options.budget_seconds,
        )
        print(f"{versions()}; {parameters:,} parameters; {describe(rows)}", file=sys.stderr, flush=True)
        found, warm = take_turns(arms, plan, folder, options.record)
        print(f"\n{versions()}; {parameters:,} parameters; {describe(rows)}; {len(found.get(PLAIN, []))} rounds\n")
        if found:
            print(report(found, warm, rows, "peak GPU memory"))
            print(check_tokens(found, rows))
        print(f"{time.monotonic() - began:.0f} s in all")


if __name__ == "__main__":
    main()
