"""``retune export``: a recipe's training set for LLaMA-Factory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from retune.export import ExportForm


def export(
    to: Annotated[Path, typer.Option(help="A new folder.")],
    recipe: Annotated[str, typer.Option(help="A name in deployments/recipes, or a recipe file's path.")] = "embedded",
    form: Annotated[
        ExportForm, typer.Option(help="How conversations are written; alpaca has no tool calls.")
    ] = "sharegpt",
) -> None:
    """Write the last training set that a recipe accepted, with a dataset_info.json, for LLaMA-Factory."""
    from flows.recipe.read import read_recipe
    from retune.export import export_training_set
    from tasks.core.home import Home

    done = export_training_set(Home.from_environment(), read_recipe(recipe).name, form, to)
    typer.echo(done.as_text())
