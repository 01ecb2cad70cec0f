"""A step of the train stage, taken apart, on a CPU: .venv/bin/python -m benchmarks.train_step MODEL TRAINING_SET

MODEL is a folder in Hugging Face layout with a ChatML template, TRAINING_SET a night's ``training_set.parquet`` (its
artifact of ``validate``), whose rows have a system turn. Two tables:

- QLoRA and LoRA by this stage, with both backends, with recomputed activations and with other numbers of threads, and
  both by plain TRL + PEFT (+ bitsandbytes): the same random rows, in turns, as benchmarks/train.py measures;
- for QLoRA and LoRA of this stage, where the time of three steps goes, by torch's profiler (its own cost included).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from benchmarks.arms.train_rows import Rows, take_rows
from benchmarks.train import Arm, Plan, start, take_turns, train_round
from benchmarks.train_report import PLAIN, describe, report

PROFILED_STEPS = 6
PROFILED = {
    "QLoRA": ("transformers", "qlora"),
    "QLoRA, Unsloth": ("unsloth", "qlora"),
    "LoRA": ("transformers", "lora"),
}


def new_arms(threads: list[int]) -> dict[str, Arm]:
    """What takes turns; none packs."""
    module = [sys.executable, "-m"]

    def arm(name: str, *after: str, **variables: str) -> Arm:
        return Arm([*module, f"benchmarks.arms.{name}"], after, packings=(False,), environment=variables)

    arms = {
        PLAIN: arm("train_plain"),
        "TRL + PEFT, LoRA": arm("train_plain", "lora"),
        "this stage, QLoRA": arm("train_stage", "transformers"),
        "this stage, QLoRA, Unsloth": arm("train_stage", "unsloth"),
        "this stage, LoRA": arm("train_stage", "transformers", "lora"),
        "this stage, LoRA, Unsloth": arm("train_stage", "unsloth", "lora"),
    }
    counted = {
        f"this stage, QLoRA, {count} threads": arm("train_stage", "transformers", OMP_NUM_THREADS=str(count))
        for count in threads
    }
    return arms | counted


def profiles(plan: Plan, rows: Rows, folder: Path) -> str:
    """The table of shares by part."""
    found: dict[str, Mapping[str, float]] = {}
    seconds: dict[str, float] = {}
    for name, (backend, method) in PROFILED.items():
        for checkpointing in (False, True):
            label = f"{name}, recomputing" if checkpointing else name
            place = folder / f"profile-{label.replace(' ', '-').replace(',', '')}"
            arm = Arm([sys.executable, "-m", "benchmarks.arms.train_profile"], (backend, method))
            one = dataclasses.replace(plan, checkpointing=checkpointing).round(rows, False, place)
            with start(label, arm, folder) as running:
                train_round(running, label, one, folder / label.replace(" ", "-").replace(",", "") / "log")
            profile = json.loads((place / "profile.json").read_text(encoding="utf-8"))
            found[label], seconds[label] = profile["shares"], profile["seconds_per_step"]
    parts = sorted(
        {part for shares in found.values() for part in shares}, key=lambda part: -found["QLoRA"].get(part, 0)
    )
    lines = [f"| part | {' | '.join(found)} |", "|---|" + "---:|" * len(found)]
    lines += [f"| {part} | {' | '.join(f'{one.get(part, 0):.1%}' for one in found.values())} |" for part in parts]
    lines.append(f"| seconds a step | {' | '.join(f'{value:.2f}' for value in seconds.values())} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("training_set", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=192, help="of a round, which has one epoch")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--accumulation-steps", type=int, default=4)
    parser.add_argument("--max-length", type=int, default=256)
    parser.add_argument("--threads", type=int, nargs="*", default=[1], help="numbers of threads to try as well")
    parser.add_argument("--arms", nargs="*", help="only arms whose names contain one of these words")
    parser.add_argument("--record", type=Path, help="where all measurements go, as JSON")
    options = parser.parse_args()
    arms = new_arms(options.threads)
    if options.arms:
        arms = {name: arm for name, arm in arms.items() if name == PLAIN or any(w in name for w in options.arms)}
    size = options.batch_size
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        step = size * options.accumulation_steps

        def rows_of(count: int, seed: int) -> Rows:
            return take_rows(folder, options.training_set, options.model, count, size, seed)

        rows, warm_up, few = rows_of(options.rows, 0), rows_of(2 * step, 1), rows_of(PROFILED_STEPS * step, 2)
        plan = Plan(
            model=options.model.resolve(),
            rows=rows,
            warm_up=warm_up,
            rounds=options.rounds,
            batch_size=(size, size),
            accumulation_steps=(options.accumulation_steps, options.accumulation_steps),
            max_length=options.max_length,
            rank=16,
            learning_rate=2e-4,
            checkpointing=False,
        )
        found, warm = take_turns(arms, plan, folder, options.record)
        print(f"\n{describe(rows)}; {options.rounds} rounds\n")
        print(report(found, warm, rows, "peak memory"))
        print(f"\n{profiles(plan, few, folder)}")


if __name__ == "__main__":
    main()
