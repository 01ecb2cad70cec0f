"""Speed and memory of a training: tokens per second, model FLOPs utilisation, peak memory."""

from __future__ import annotations

import re
import time
from collections import deque
from pathlib import Path
from typing import Any

RECENT_STEPS = 10
PEAK_FLOPS = (
    (r"T4", 65e12),  # float16: the card has no bfloat16
    (r"A10", 125e12),
    (r"A10G", 70e12),
    (r"A100[ -].*", 312e12),
    (r"L4", 121e12),
    (r"L40S", 362e12),
    (r"H100 PCIe", 756e12),
    (r"H100( 80GB HBM3| SXM.*)?", 989e12),
    (r"H200( SXM.*)?", 989e12),
    (r"B200", 2250e12),
    (r"RTX 3090", 71e12),
    (r"RTX 4090", 165e12),
    (r"RTX 5090", 209e12),
)
"""Dense bfloat16 FLOP/s with float32 accumulation, by torch's name of a card without brands.

Source: NVIDIA's data sheets, and the white papers of the GA102, AD102 and GB202 chips for the RTX cards; half of a
rate that is stated with sparsity only.
"""
BRANDS = re.compile(r"^(NVIDIA |Tesla |GeForce )+")


def peak_flops(device_name: str) -> float | None:
    """The peak of a card in FLOP/s; None for unknown cards, slices of a card (MIG) and CPUs."""
    name = BRANDS.sub("", device_name)
    return next((peak for pattern, peak in PEAK_FLOPS if re.fullmatch(pattern, name) and "MIG" not in name), None)


def mfu(tokens_per_second: float, parameters: int, device_name: str, trains_all: bool) -> float | None:
    """Model FLOPs utilisation, 0 to 1: the arithmetic that the model needs over the card's peak; None if unknown.

    After Chowdhery et al. 2022 (PaLM, arXiv 2204.02311), appendix B, without attention over the sequence: 6 N FLOPs per
    token (2 N each for the forward pass, the gradients of activations and those of weights), 4 N with frozen weights.
    Recomputed activations and padding do not count.
    """
    peak = peak_flops(device_name)
    return None if peak is None else (6 if trains_all else 4) * parameters * tokens_per_second / peak


def peak_memory_bytes() -> int:
    """This process's peak memory: reserved on the GPU if there is one, else resident."""
    import torch

    return int(torch.cuda.max_memory_reserved()) if torch.cuda.is_available() else peak_resident_bytes()


def peak_resident_bytes() -> int:
    """This process's peak resident memory: VmHWM in Linux (Documentation/filesystems/proc.rst), else getrusage."""
    status = Path("/proc/self/status")
    if status.is_file():
        lines = status.read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class TokenCounter:
    """Counts the non-padding tokens of training batches on their device, so that no step waits for the sum."""

    def __init__(self, model: Any) -> None:
        self._sum: Any = 0
        model.register_forward_pre_hook(self._count, with_kwargs=True)

    @property
    def total(self) -> int:
        return int(self._sum)

    def _count(self, model: Any, positional: tuple[Any, ...], named: dict[str, Any]) -> None:
        if not model.training:
            return
        mask = named.get("attention_mask")
        if mask is not None and mask.dim() == 2:
            self._sum = self._sum + mask.detach().sum()
            return
        ids = named.get("input_ids", positional[0] if positional else None)
        if ids is not None:  # packed without padding
            self._sum = self._sum + ids.numel()


Point = tuple[float, int, int]  # seconds, steps and tokens so far


class Pace:
    """Speed without the first step, which compiles kernels and skips data, and without evaluations."""

    def __init__(self) -> None:
        self._paused = 0.0
        self._first: Point | None = None
        self._recent: deque[Point] = deque(maxlen=RECENT_STEPS + 1)

    def note(self, step: int, tokens: int, now: float | None = None) -> None:
        """Note the end of a step, with the tokens of all steps so far and a monotonic clock's seconds."""
        at = ((time.monotonic() if now is None else now) - self._paused, step, tokens)
        self._first = self._first or at
        self._recent.append(at)

    def pause(self, seconds: float) -> None:
        """Leave out seconds in which nothing was trained."""
        self._paused += seconds

    @property
    def tokens_per_second(self) -> float | None:
        """From the end of the first step to the last; None before the second."""
        return _tokens_per_second(self._first, self._recent[-1] if self._recent else None)

    @property
    def recent_tokens_per_second(self) -> float | None:
        """Over the last steps; None before the second."""
        return _tokens_per_second(self._recent[0], self._recent[-1]) if self._recent else None

    def seconds_left(self, total_steps: int) -> float | None:
        """Seconds that the rest takes at the speed of the last steps; None before the second."""
        if not self._recent:
            return None
        (began, first, _), (now, last, _) = self._recent[0], self._recent[-1]
        return None if last == first else (now - began) / (last - first) * max(0, total_steps - last)


def _tokens_per_second(begin: Point | None, end: Point | None) -> float | None:
    if begin is None or end is None or end[0] <= begin[0]:
        return None
    return (end[2] - begin[2]) / (end[0] - begin[0])
