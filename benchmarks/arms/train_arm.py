"""What every arm of benchmarks/train.py and benchmarks/train_gpu.py shares: rounds on request, and one clock for all.

An arm is a process that loads its libraries once, reads one round a line from its standard input (a :class:`Round` as
JSON), trains, and writes what the clock saw. Every arm trains with a Trainer of transformers, and so each gets the
same callback: it counts from the end of the trainer's first step, in which kernels are built, to that of its last, and
then measures the loss of held-out rows.
"""

from __future__ import annotations

import gc
import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

DONE = "ROUND DONE"
MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@dataclass(frozen=True)
class Round:
    """One training run: the same for all arms but for packing, and the batches that go with it.

    Attributes:
        model: folder of the base model, with its tokenizer.
        rows: Parquet with the columns of a training set; ``messages`` are what is trained on.
        held_out: JSON, ``input_ids`` and ``labels`` of rows that are not trained on.
        work: an empty folder for whatever the arm writes.
        result: where the measurement goes, as JSON.
        batch_size: rows that are held at once; with packing, sequences of ``max_length`` tokens.
        checkpointing: recompute activations.
    """

    model: str
    rows: str
    held_out: str
    work: str
    result: str
    packing: bool
    batch_size: int
    accumulation_steps: int
    epochs: float
    max_length: int
    rank: int
    learning_rate: float
    seed: int
    checkpointing: bool


def serve(train: Callable[[Round], None], ready: Path) -> None:
    """Train a round for every line of the standard input; ``ready`` is written before the first.

    Args:
        train: trains one round to its end.
        ready: gets ``{"startup_seconds"}``, from the start of the process on.
    """
    import psutil

    started = psutil.Process().create_time()
    ready.write_text(json.dumps({"startup_seconds": time.time() - started}), encoding="utf-8")
    print(DONE, flush=True)
    for line in sys.stdin:
        one = Round(**json.loads(line))
        with clock(one) as measured:
            train(one)
        Path(one.result).write_text(json.dumps(measured), encoding="utf-8")
        _free()
        print(DONE, flush=True)


@contextmanager
def clock(one: Round) -> Iterator[dict[str, Any]]:
    """Measure the trainer that is used inside of the block; the dictionary is filled when its training ends.

    It has ``setup_seconds`` (until training begins), ``first_step_seconds``, ``seconds`` (all steps),
    ``seconds_per_step`` and ``processor_seconds_per_step`` (of all threads), both without the first, ``steps``,
    ``peak_bytes``, ``held_out_loss``, ``tokens_counted_by_trl``.
    """
    from transformers import TrainerCallback, trainer

    measured: dict[str, Any] = {"round": asdict(one)}
    begun = time.perf_counter()

    class Clock(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            _wait_for_device()
            _forget_peak()
            measured["setup_seconds"] = time.perf_counter() - begun
            self.started = time.perf_counter()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if "first_step_seconds" not in measured:
                _wait_for_device()
                measured["first_step_seconds"] = time.perf_counter() - self.started
                self.processor = time.process_time()

        def on_train_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            _wait_for_device()
            measured["seconds"] = time.perf_counter() - self.started
            measured["steps"] = state.global_step
            later = measured["steps"] - 1
            measured["seconds_per_step"] = (measured["seconds"] - measured["first_step_seconds"]) / later
            measured["processor_seconds_per_step"] = (time.process_time() - self.processor) / later
            measured["peak_bytes"] = peak_bytes()
            counted = [entry["num_tokens"] for entry in state.log_history if "num_tokens" in entry]
            measured["tokens_counted_by_trl"] = counted[-1] if counted else None
            measured["held_out_loss"] = loss_of(model, Path(one.held_out))

    trainer.DEFAULT_CALLBACKS.append(Clock)
    try:
        yield measured
    finally:
        trainer.DEFAULT_CALLBACKS.remove(Clock)


def loss_of(model: Any, held_out: Path) -> float:
    """Mean negative log-likelihood of the held-out rows' trained tokens, in nats; each row alone, nothing packed."""
    import torch

    rows = json.loads(held_out.read_text(encoding="utf-8"))
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    total, tokens = 0.0, 0
    with torch.no_grad(), torch.autocast("cuda", torch.bfloat16, enabled=device.type == "cuda"):
        for ids, labels in zip(rows["input_ids"], rows["labels"], strict=True):
            trained = sum(label != -100 for label in labels)
            batch = torch.tensor([ids], device=device), torch.tensor([labels], device=device)
            total += float(model(input_ids=batch[0], labels=batch[1]).loss) * trained
            tokens += trained
    model.train(was_training)
    return total / tokens


def peak_bytes() -> int:
    """The most memory that was held since the peak was forgotten: reserved on the GPU, else resident."""
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_reserved())
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _forget_peak() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _wait_for_device() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _free() -> None:
    import torch
    from bitsandbytes.optim import GlobalOptimManager

    # It keeps every embedding that a Trainer with an 8-bit optimizer registered.
    GlobalOptimManager.get_instance().initialize()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
