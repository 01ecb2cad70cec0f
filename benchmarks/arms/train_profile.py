"""Where the time of this project's training steps goes.

``python -m benchmarks.arms.train_profile READY BACKEND METHOD``; see benchmarks/arms/train_arm.py. A round is trained
as by benchmarks/arms/train_stage.py, and three of its later steps under torch's profiler, whose own cost is part of
them. ``profile.json`` in the round's folder has the share of the steps' time by part.
"""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.arms.train_arm import Round, serve
from benchmarks.arms.train_stage import train

FIRST, LAST = 3, 5
"""Steps that are profiled."""
PARTS = {
    "NF4 dequantisation": ("dequantize", "4bit"),
    "matrix products": ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::matmul", "mkldnn_linear"),
    "attention": ("scaled_dot_product", "flash_attention"),
    "optimizer": ("Optimizer.", "_fused_adam"),
    "gradient norm and clipping": ("aten::_foreach", "linalg_vector_norm"),
    "copies and casts": ("aten::copy_", "aten::_to_copy", "aten::clone", "aten::contiguous"),
}
"""Parts of the torch operators' own time, by what is in an operator's name; all others are one part."""
CALLBACKS = "callbacks: log, curve, checkpoints"
OTHERS = "other operators (norms, rotary positions, activations, loss)"


def shares(profile: Any, seconds: float, outside: defaultdict[str, float]) -> dict[str, float]:
    """Share of the profiled steps' time by part; what no operator and no part has is Python."""
    found: defaultdict[str, float] = defaultdict(float, outside)
    for event in profile.key_averages():
        if event.key.startswith("ProfilerStep"):
            continue
        part = next((part for part, words in PARTS.items() if any(word in event.key for word in words)), OTHERS)
        found[part] += event.self_cpu_time_total / 1e6
    found["Python and the rest"] = max(0.0, seconds - sum(found.values()))
    total = sum(found.values())
    return {part: spent / total for part, spent in sorted(found.items(), key=lambda one: -one[1])}


def profiled(one: Round, backend: str, method: str) -> None:
    """Train a round, and write its profile."""
    import torch
    from transformers import TrainerCallback, trainer

    outside: defaultdict[str, float] = defaultdict(float)
    profiler = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU])

    class Profiler(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.started = self.seconds = 0.0

        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step + 1 == FIRST:
                began = time.perf_counter()
                profiler.start()
                self.started = time.perf_counter()
                outside.clear()
                outside[CALLBACKS] = began - self.started  # the start of the profiler is part of this callback
            if state.global_step == LAST and not self.seconds:
                self.seconds = time.perf_counter() - self.started
                profiler.stop()
                found = shares(profiler, self.seconds, outside)
                steps = LAST - FIRST + 1
                result = {"seconds_per_step": self.seconds / steps, "shares": found}
                Path(one.work, "profile.json").write_text(json.dumps(result), encoding="utf-8")

    handler, loader = trainer.CallbackHandler.call_event, trainer.Trainer.get_batch_samples
    trainer.CallbackHandler.call_event = timed(handler, outside, CALLBACKS)
    trainer.Trainer.get_batch_samples = timed(loader, outside, "data: collation")
    trainer.DEFAULT_CALLBACKS.append(Profiler)
    try:
        train(one, backend, method)
    finally:
        trainer.DEFAULT_CALLBACKS.remove(Profiler)
        trainer.CallbackHandler.call_event, trainer.Trainer.get_batch_samples = handler, loader


def timed(function: Any, spent: defaultdict[str, float], part: str) -> Any:
    """The same function, whose seconds are added to a part."""

    def call(*arguments: Any, **options: Any) -> Any:
        started = time.perf_counter()
        try:
            return function(*arguments, **options)
        finally:
            spent[part] += time.perf_counter() - started

    return call


if __name__ == "__main__":
    ready, backend, method = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    if backend == "unsloth":
        import unsloth  # noqa: F401  it patches transformers and trl, so it comes before them
    from trl import SFTTrainer  # noqa: F401  its import is start-up

    serve(partial(profiled, backend=backend, method=method), ready)
