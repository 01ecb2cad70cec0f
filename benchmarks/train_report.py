"""The tables of benchmarks/train.py and benchmarks/train_gpu.py."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.arms.train_rows import Rows

PLAIN = "TRL + PEFT + bitsandbytes"
Found = dict[str, list[dict[str, Any]]]


def tokens_per_second(one: Mapping[str, Any], rows: Rows) -> float:
    """Non-padding tokens a second after the first step; a step has about the same share of the tokens."""
    return rows.tokens / int(one["steps"]) / float(one["seconds_per_step"])


def processor_seconds(one: Mapping[str, Any]) -> float:
    """Processor time of all threads for the whole run at the pace after the first step."""
    return float(one["processor_seconds_per_step"]) * int(one["steps"])


def spread(ratios: Sequence[float]) -> str:
    """Median and range."""
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def report(found: Found, warm: Found, rows: Rows, memory: str) -> str:
    """The Markdown table: medians, and the ratios of each round to the plain stack without packing."""
    lines = [
        f"| arm | steps | trained tokens a second | of plain: median (range) | processor time a token, of plain: median"
        f" (range) | {memory}, GiB | held-out loss"
        " | start-up, s | first round until its first step was done, s"
        " | later rounds, s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for label, runs in found.items():
        speeds = [tokens_per_second(one, rows) for one in runs]
        ratios = [own / tokens_per_second(plain, rows) for own, plain in zip(speeds, found[PLAIN], strict=True)]
        effort = [
            processor_seconds(own) / processor_seconds(plain) for own, plain in zip(runs, found[PLAIN], strict=True)
        ]
        first = warm[label][0]
        cold = first["setup_seconds"] + first["first_step_seconds"]
        again = statistics.median(one["setup_seconds"] + one["first_step_seconds"] for one in runs)
        lines.append(
            f"| {label} | {runs[0]['steps']} | {statistics.median(speeds):,.0f} | {spread(ratios)} | {spread(effort)}"
            f" | {statistics.median(one['peak_bytes'] for one in runs) / 2**30:.2f}"
            f" | {statistics.median(one['held_out_loss'] for one in runs):.3f}"
            f" | {first['startup_seconds']:.1f} | {cold:.1f} | {again:.1f} |"
        )
    return "\n".join(lines)


def describe(rows: Rows) -> str:
    """The rows in a line."""
    return (
        f"{rows.count} rows, {rows.tokens:,} tokens ({rows.trained_tokens:,} of them in the loss),"
        f" {rows.padded_share:.0%} of a batch of random rows is padding"
    )


def check_tokens(found: Found, rows: Rows) -> str:
    """A line for every arm whose trainer counted other tokens than the rows have."""
    lines = []
    for label, runs in found.items():
        counted = runs[0]["tokens_counted_by_trl"]
        if counted is not None and round(counted) != rows.tokens:
            lines.append(f"{label}: its trainer counted {counted:,.0f} tokens, the rows have {rows.tokens:,}")
    return "\n".join(lines)
