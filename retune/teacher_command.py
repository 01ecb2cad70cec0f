"""``retune serve-teacher``."""

from __future__ import annotations

from typing import Annotated

import typer

from tasks.core.home import Home


def serve_teacher(
    recipe: Annotated[str, typer.Option(help="A name in deployments/recipes, or a recipe file's path.")] = "embedded",
) -> None:
    """Serve a recipe's teacher until Ctrl-C, so that preview and diff answer in seconds."""
    from flows.recipe.read import read_recipe
    from retune.teacher import serve_teacher as serve

    serve(read_recipe(recipe), Home.from_environment())
