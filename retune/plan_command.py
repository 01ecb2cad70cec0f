"""``retune plan``: whether a recipe's model fits this machine, and how long its training takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from retune.plan import Plan, Workload

GB = 10**9
out = Console(highlight=False)
PARTS = {
    "weights": "weights",
    "quantisation": "constants of the 4-bit blocks",
    "gradients": "gradients",
    "optimizer": "optimizer",
    "activations": "activations",
    "logits": "logits and loss",
    "cache": "keys and values",
    "allocator": "allocator's gaps",
    "runtime": "runtime and libraries",
    "loading": "while loading, instead",
}


def plan(
    recipe: Annotated[str, typer.Option(help="A name in deployments/recipes, or a recipe file's path.")] = "embedded",
    model_config: Annotated[
        Path | None, typer.Option(help="The model's config.json, where neither its folder nor the catalogue has it.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="One JSON object; bytes, seconds.")] = False,
    table: Annotated[
        bool,
        typer.Option("--table", help="Instead: model sizes against GPU sizes, in Markdown, as in docs/planning.md."),
    ] = False,
) -> None:
    """Count parameters, memory, tokens and time of a recipe's training, without loading weights."""
    from flows.recipe.read import read_recipe
    from retune.plan import plan_recipe
    from tasks.core.home import Home
    from tasks.train.planner import size_table

    if table:
        print(size_table())
        return
    planned = plan_recipe(read_recipe(recipe), Home.from_environment(), model_config)
    if json_:
        print(json.dumps(planned.as_json(), ensure_ascii=False))
    else:
        print_plan(planned)


def print_plan(planned: Plan) -> None:
    """One page: parameters, memory by parts, devices, and the work ahead."""
    training = planned.training
    share = training.trainable_parameters / training.shape.total_parameters
    _say(f"{planned.recipe}: {training.method} of {planned.model} ({training.shape.family})")
    _say(
        f"{training.shape.total_parameters:,} parameters, of which {training.trainable_parameters:,} are trained"
        f" ({share:.2%}); backend {training.backend}"
        + (f"; {training.processes} processes, memory of each:" if training.processes > 1 else "")
    )
    out.print(_memory(planned))
    for device in training.devices:
        _say(f"{device.name}: {device.free / GB:.1f} of {device.total / GB:.1f} GB free")
    verdicts = {"training": training.fits_training, "inference": training.fits_inference}
    for name, fits in verdicts.items():
        out.print(Text(f"{name} {'fits' if fits else 'does not fit'}", "green" if fits else "red"))
    for problem in planned.refusals:
        out.print(Text(f"refused on this machine: {problem}", "red"), soft_wrap=True)
    for line in _work(planned.workload):
        _say(line)


def _memory(planned: Plan) -> Table:
    columns = (planned.training.training, planned.training.inference)
    table = Table("memory at the peak, GB")
    for name in ("training", "inference"):
        table.add_column(name, justify="right")
    splits = [column.splits() for column in columns]
    for part, name in PARTS.items():
        if any(split.get(part) for split in splits):
            table.add_row(name, *(f"{split.get(part, 0) / GB:.2f}" for split in splits))
    table.add_row("peak", *(f"{column.total / GB:.2f}" for column in columns), style="bold")
    return table


def _work(work: Workload) -> list[str]:
    rows = (
        "rows unknown: no run of this recipe has made a training set yet"
        if work.rows is None
        else f"{work.rows:,} rows"
    )
    if work.steps is None or work.tokens is None:
        return [f"{rows}, so neither are steps, tokens and time"]
    at_most = "at most " if work.tokens_are == "bound" else ""
    over = f" over {work.trainings} trainings" if work.trainings > 1 else ""
    lines = [f"{rows}; {work.steps:,} steps{over}, {at_most}{work.tokens:,} tokens"]
    if work.tokens_per_second is None or work.seconds is None:
        return [*lines, "time: not measured here; an earlier training of this model on this device would tell"]
    speed = f"{work.tokens_per_second:,.0f} tokens a second, as the last training of this model ran here"
    return [*lines, f"time: {at_most}{work.seconds / 60:,.1f} minutes at {speed}"]


def _say(line: str) -> None:
    out.print(line, soft_wrap=True, markup=False)
