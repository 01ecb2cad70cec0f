"""What the training did: in sentences, and on the page with the loss curve, the mix and the masking proof."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.core.artifacts import REPORT_FOLDER
from tasks.core.details import MixShare, TrainDetails, ValidationDetails

MIB = 2**20
CURVE = "loss.png"
LONGEST_EXAMPLE = 1200
NOTICEABLE_RISE = 0.02
"""A rise of the validation loss by a smaller share is not called over-fitting."""
KEEP_BEST = "set train.keep: best to keep that step, and train.early_stopping or fewer steps to save the rest"
OVER_LENGTH = {
    "dropped": "dropped {}",
    "truncated": "truncated {}",
    "tokens_cut": "tokens cut {}",
    "split": "split {}",
    "pieces": "into {} pieces",
    "exchanges_dropped": "exchanges dropped {}",
}


def train_lines(found: TrainDetails) -> list[str]:
    """What was trained with what, what it cost, and the outcome of rows that were too long."""
    backend = f"{found.method} with {found.backend} on {found.device} in {found.dtype}"
    share = f"{found.trainable_parameters:,} of {found.total_parameters:,} parameters"
    steps = f"{found.steps} steps, last loss {found.final_loss:.3f}"
    lines = [
        f"Trained: {backend}; {share}; {steps}; optimizer {found.optimizer}{_batches(found)}.",
        f"Masking: {found.trained_token_share:.1%} of {found.tokens:,} tokens are learned{_cost(found)}.",
    ]
    counts = ((text, found.over_length.get(name)) for name, text in OVER_LENGTH.items())
    if over := ", ".join(text.format(count) for text, count in counts if count):
        lines.append(f"Rows over the maximum length: {over}.")
    if found.validation:
        lines += validation_lines(found.validation, found.steps or 0)
    if found.initial_adapter:
        lines.append(f"Training continued from version {found.initial_adapter.version}.")
    if len(found.mix) > 1:
        shares = (
            f"{name} {group.share_reached:.1%} ({group.rows_after:,} rows, {group.tokens:,} tokens)"
            for name, group in found.mix.items()
        )
        lines.append(f"Mix: {', '.join(shares)}.")
    return lines


def validation_lines(validation: ValidationDetails, steps: int) -> list[str]:
    """What the validation loss did, which step is kept, and what to change if the run over-fits or learns nothing."""
    last = "the last step" if validation.fault or validation.kept_step == steps else f"step {validation.kept_step}"
    before, least, final = (validation.losses[name] for name in ("before", "lowest", "final"))
    lowest = f"lowest, {least:.4g}, at step {validation.lowest_step} of {validation.planned_steps}"
    losses = [f"{before:.4g} before training", lowest]
    if validation.lowest_step != steps:
        losses.append(f"{final:.4g} at the end")
    lines = [
        "Rows: {trained_rows:,} are trained on, and {rows:,} (of {documents:,} documents) are for validation.".format(
            **validation.split
        ),
        f"Validation loss: {'; '.join(losses)}. The weights of {last} are kept.",
    ]
    if steps < validation.planned_steps:
        lines.append(f"The training stopped early, after step {steps}, because the validation loss no longer fell.")
    if validation.fault:
        fault = f"The checkpoint of step {validation.lowest_step} {validation.fault}"
        lines.append(f"{fault}: it could not be kept, although its validation loss was lowest.")
    if least >= before:
        lines.append(
            "The validation loss never fell below that before training: what is learned does not carry over to other"
            " documents. Check the training rows, and lower train.learning_rate."
        )
    elif final > least * (1 + NOTICEABLE_RISE):
        keeps_best = validation.fault or validation.kept_step == validation.lowest_step
        advice = "" if keeps_best else f": {KEEP_BEST}"
        lines.append(f"The training over-fits after step {validation.lowest_step}{advice}.")
    return lines


def training_markdown(folder: Path, link: str) -> list[str]:
    """The section of the page: the loss curve, the shares by source, and an example with the learned part marked.

    ``folder``: the artifact of train; parts of the section that it lacks are left out. ``link``: to the curve's
    picture, relative to the page.
    """
    lines = ["## Training", ""]
    if (folder / REPORT_FOLDER / CURVE).is_file():
        lines += [f"![Loss and learning rate]({link})", ""]
    lines += _mix_table(_read(folder / "mix.json"))
    if example := _read(folder / "masking.json").get("example"):
        shown = example if len(example) <= LONGEST_EXAMPLE else example[:LONGEST_EXAMPLE] + " ..."
        fence = "`" * (1 + max([2, *map(len, re.findall("`+", shown))]))
        lines += ["One row as the trainer sees it, what is learned in [[ ]]:", "", fence, shown.rstrip(), fence, ""]
    return lines


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _mix_table(mix: Mapping[str, Any]) -> list[str]:
    rows = [
        (f"{kind}: {name}".replace("|", "\\|"), MixShare.model_validate(part))
        for kind, parts in (("group", mix.get("groups", {})), ("source", mix.get("sources", {})))
        for name, part in parts.items()
        if len(parts) > 1 or kind == "group"
    ]
    if len(rows) < 2:
        return []
    table = ["| trained on | rows there | rows trained | asked | reached | most repeats | tokens |"]
    table.append("|---|" + "---:|" * 6)
    for name, part in rows:
        asked = "-" if part.share_asked is None else f"{part.share_asked:.1%}"
        counts = f"{part.rows_before:,} | {part.rows_after:,} | {asked} | {part.share_reached:.1%}"
        table.append(f"| {name} | {counts} | {part.repeats} | {part.tokens:,} |")
    return [*table, ""]


def _batches(found: TrainDetails) -> str:
    rows = found.batch_size * found.accumulation_steps * found.processes
    unit = "packed sequences" if found.packing else "rows"
    resumed = f"; resumed from step {found.resumed_from}" if found.resumed_from else ""
    return f", {rows} {unit} a step{resumed}"


def _cost(found: TrainDetails) -> str:
    parts = []
    if found.tokens_per_second:
        parts.append(f"{found.tokens_per_second:,.0f} tokens a second")
    if found.peak_memory_bytes:
        parts.append(f"peak memory {found.peak_memory_bytes // MIB:,} MiB")
    if found.mfu:
        parts.append(f"model FLOPs utilisation {found.mfu:.1%}")
    return "".join(f"; {part}" for part in parts)
