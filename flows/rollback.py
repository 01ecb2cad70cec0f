"""Move the alias ``champion`` back to the version before it. Run it with ``retune rollback``."""

from __future__ import annotations

from prefect import flow

from flows.recipe.read import read_recipe
from tasks.core.home import Home, recipe_in_messages
from tasks.publish.registry import Registry

UNCHANGED = "nothing changed, it was so already"


def roll_back(recipe: str, to: str | None) -> str:
    """Move the alias; returns a sentence that reports it."""
    found = read_recipe(recipe)
    registry = Registry(Home.from_environment(), found.publish.name)
    with recipe_in_messages(found.reference):
        before, after = registry.roll_back(to)
    if after is None:
        what = f"version {before.version} is no longer champion, and no other version is" if before else UNCHANGED
        return f"{registry.name}: {what}"
    was = f"version {before.version}" if before else "none"
    moved = f"champion was {was} and is now version {after.version}" if before != after else UNCHANGED
    return f"{registry.name}: {moved}\nits files are in {after.path}"


@flow(name="rollback", flow_run_name="{recipe}", log_prints=True)
def rollback(recipe: str = "embedded", to: str | None = None) -> str:
    """Take the champion back.

    Args:
        recipe: whose registered model.
        to: a version, or ``none``; the version before if nothing is given.
    """
    report = roll_back(recipe, to)
    print(report)
    return report
