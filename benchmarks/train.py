"""The train stage beside what others offer, on a CPU: .venv/bin/python -m benchmarks.train [--rounds N]

QLoRA (NF4, rank 16, all linear layers, loss on the assistant's tokens, compute in float32) of the seedling on the same
rows of mixed length with the same seed, once over all of them:

- this stage: the function that ``python -m tasks.train.worker job.json`` runs, by its backend transformers and by
  Unsloth, with MLflow, sealed checkpoints and the masking proof;
- the plain stack: TRL + PEFT + bitsandbytes as their documentation writes it (benchmarks/arms/train_plain.py);
- LLaMA-Factory, in an environment of its own, which ``make bench-setup`` builds; left out where it is missing.

Each without packing and with it, but for Unsloth, which packs nothing on a CPU. Without packing a micro-batch is 8
random rows; with it, 2 sequences of 512 tokens, accumulated so that an optimizer step sees about as many rows, and a
run has about as many steps. Each arm is one process for all rounds; the arms take turns. One clock for all
(benchmarks/arms/train_arm.py): from the end of the trainer's first step to that of its last; start-up, and each round
until the end of its first step, are reported separately. Trained tokens are those of the rows, padding not counted;
held-out loss is of 16 rows that were not trained on, each alone. Peak memory is the process's resident memory while it
trains. Every arm has the environment variables that the stage sets for its worker, so that waiting threads sleep:
without them, all are several times slower on cores that others use too. Ratios are those of each round, to the plain
stack without packing; that of the processor's time says the same where other programs take the cores away.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.arms.train_arm import DONE, Round
from benchmarks.arms.train_rows import ROOT, SEEDLING, Rows, write_rows
from benchmarks.train_report import PLAIN, Found, check_tokens, describe, report
from tasks.core.config import ModelSource
from tasks.train.train import worker_environment

STAGE = "this stage, transformers"
UNSLOTH = "this stage, Unsloth"
FACTORY = "LLaMA-Factory"
PACKED = "{}, packed"
PEER = ROOT / ".venv-bench-train" / "bin" / "python"


@dataclass(frozen=True)
class Arm:
    """A process that trains.

    Attributes:
        command: what is run, before the path of the file that says it is ready.
        after: what follows that path.
        packings: the rounds it trains.
        environment: variables besides those that the stage sets for its worker.
    """

    command: Sequence[str]
    after: Sequence[str] = ()
    packings: Sequence[bool] = (False, True)
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Running:
    """An arm's process, and how long it took to start."""

    process: subprocess.Popen[str]
    startup_seconds: float = 0.0
    found: list[dict[str, Any]] = field(default_factory=list)


def new_arms() -> dict[str, Arm]:
    """This stage and the plain stack; LLaMA-Factory where it is installed."""
    module = [sys.executable, "-m"]
    arms = {
        PLAIN: Arm([*module, "benchmarks.arms.train_plain"]),
        STAGE: Arm([*module, "benchmarks.arms.train_stage"], ["transformers"]),
        UNSLOTH: Arm([*module, "benchmarks.arms.train_stage"], ["unsloth"]),
    }
    if PEER.is_file():
        arms[FACTORY] = Arm([str(PEER), "-m", "benchmarks.arms.train_llamafactory"])
    return arms


@contextmanager
def start(name: str, arm: Arm, folder: Path) -> Iterator[Running]:
    """The arm's process, ready to train; ended with the block."""
    place = folder / name.replace(" ", "-").replace(",", "")
    (place / "tmp").mkdir(parents=True)
    settings = worker_environment(ModelSource(path=str(SEEDLING)), place)
    environment = {
        **os.environ,
        **settings,
        **arm.environment,
        "PYTHONPATH": os.pathsep.join([str(ROOT), *_searched()]),
    }
    ready = place / "ready.json"
    with (place / "log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            [*arm.command, str(ready), *arm.after],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=ROOT,
            env=environment,
        )
        running = Running(process)
        try:
            _wait(running, name, place / "log")
            running.startup_seconds = json.loads(ready.read_text(encoding="utf-8"))["startup_seconds"]
            print(f"{name}: ready after {running.startup_seconds:.1f} s", file=sys.stderr, flush=True)
            yield running
        finally:
            process.kill()
            process.wait()


def _searched() -> list[str]:
    return [os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else []


def _wait(running: Running, name: str, log: Path) -> None:
    assert running.process.stdout is not None
    for line in running.process.stdout:
        if line.strip() == DONE:
            return
    raise SystemExit(f"{name} failed:\n{log.read_text(encoding='utf-8')[-3000:]}")


def train_round(running: Running, name: str, one: Round, log: Path) -> dict[str, Any]:
    """Let an arm train; what its clock saw."""
    Path(one.work).mkdir(parents=True)
    assert running.process.stdin is not None
    running.process.stdin.write(json.dumps(asdict(one)) + "\n")
    running.process.stdin.flush()
    _wait(running, name, log)
    measured: dict[str, Any] = json.loads(Path(one.result).read_text(encoding="utf-8"))
    print(
        f"{name}{', packed' if one.packing else ''}: {measured['seconds']:.1f} s, {measured['steps']} steps,"
        f" loss {measured['held_out_loss']:.3f}",
        file=sys.stderr,
        flush=True,
    )
    return measured


@dataclass(frozen=True)
class Plan:
    """The sizes of a run: what differs between a round with packing and one without is a pair (without, with)."""

    model: Path
    rows: Rows
    warm_up: Rows
    rounds: int
    batch_size: tuple[int, int]
    accumulation_steps: tuple[int, int]
    max_length: int
    rank: int
    learning_rate: float
    checkpointing: bool
    seed: int = 7
    deadline: float = float("inf")

    def round(self, rows: Rows, packing: bool, work: Path) -> Round:
        """One arm's round."""
        return Round(
            model=str(self.model),
            rows=str(rows.path),
            held_out=str(rows.held_out),
            work=str(work),
            result=str(work.with_suffix(".json")),
            packing=packing,
            batch_size=self.batch_size[packing],
            accumulation_steps=self.accumulation_steps[packing],
            epochs=1.0,
            max_length=self.max_length,
            rank=self.rank,
            learning_rate=self.learning_rate,
            seed=self.seed,
            checkpointing=self.checkpointing,
        )


def take_turns(arms: Mapping[str, Arm], plan: Plan, folder: Path, record: Path | None) -> tuple[Found, Found]:
    """Start every arm, train a warm-up round in each, then the rounds, in an order that rotates.

    Args:
        record: JSON, rewritten after every round, so an interrupted run keeps its figures.

    Returns:
        by arm and packing: the rounds, and the warm-up round with the arm's ``startup_seconds``.
    """
    warm: Found = {}
    found: Found = {}
    with ExitStack() as stack:
        running = {name: stack.enter_context(start(name, arm, folder)) for name, arm in arms.items()}
        turns = [(name, packing) for name, arm in arms.items() for packing in arm.packings]
        for number in range(plan.rounds + 1):
            first = number % len(turns)
            for name, packing in [*turns[first:], *turns[:first]]:
                if time.monotonic() > plan.deadline:
                    print("out of time: fewer rounds than asked for", file=sys.stderr)
                    return whole_rounds(found, turns), warm
                label = PACKED.format(name) if packing else name
                work = folder / f"{label.replace(' ', '-').replace(',', '')}-{number}"
                one = plan.round(plan.rows if number else plan.warm_up, packing, work)
                measured = train_round(
                    running[name], name, one, folder / name.replace(" ", "-").replace(",", "") / "log"
                )
                measured["startup_seconds"] = running[name].startup_seconds
                (found if number else warm).setdefault(label, []).append(measured)
                if record is not None:
                    record.write_text(json.dumps({"rounds": found, "warm_up": warm}), encoding="utf-8")
    return found, warm


def whole_rounds(found: Found, turns: Sequence[tuple[str, bool]]) -> Found:
    """Only the rounds that every arm trained."""
    labels = [PACKED.format(name) if packing else name for name, packing in turns]
    count = min(len(found.get(label, [])) for label in labels)
    return {label: found[label][:count] for label in labels if count}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=96)
    parser.add_argument("--arms", nargs="*", help="only arms whose names contain one of these words")
    parser.add_argument("--record", type=Path, help="where all measurements go, as JSON")
    options = parser.parse_args()
    arms = new_arms()
    arms[UNSLOTH] = dataclasses.replace(arms[UNSLOTH], packings=(False,))
    if options.arms:
        arms = {name: arm for name, arm in arms.items() if name == PLAIN or any(w in name for w in options.arms)}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        sizes: dict[str, Any] = {"median": 32, "max_length": 512, "batch_size": 8, "seed": 0}
        rows = write_rows(folder, options.rows, **sizes)
        plan = Plan(
            model=SEEDLING,
            rows=rows,
            warm_up=write_rows(folder, 32, **sizes),
            rounds=options.rounds,
            batch_size=(8, 2),
            accumulation_steps=(2, 3),
            max_length=512,
            rank=16,
            learning_rate=1e-3,
            checkpointing=False,
        )
        print(describe(rows), file=sys.stderr, flush=True)
        found, warm = take_turns(arms, plan, folder, options.record)
        print(f"\n{describe(rows)}; {options.rounds} rounds\n")
        print(report(found, warm, rows, "peak memory"))
        print(check_tokens(found, rows))


if __name__ == "__main__":
    main()
