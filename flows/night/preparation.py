"""What precedes a night: its recipe is checked once, and its record is kept however the run ends.

This module does not import Prefect, which reads the address of its server when it is imported.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from flows.night.champion import check_champion
from flows.recipe.checks import check_recipe
from flows.recipe.read import read_recipe
from flows.recipe.recipe import Recipe
from flows.report.page import write_page
from flows.report.record import RunRecord
from tasks.core.home import Home
from tasks.publish.registry import Registry

_checked: dict[str, Recipe] = {}
"""Recipes that this process has checked and no night has taken yet, by the name of the run."""


def check_before_start(name: str, home: Home) -> Recipe:
    """Check a recipe before a Prefect server starts; the night that follows does not check it again.

    Nothing has started yet, so a run that the check stops leaves no record: the last night stays the latest. Raises
    RetuneError: the recipe or a file that it names is wrong, or it does not fit its champion.
    """
    _checked[name] = _read_and_check(name, home)
    return _checked[name]


def checked_recipe(name: str, home: Home) -> Recipe:
    """The recipe of a night, checked; raises as ``check_before_start`` does."""
    return _checked.pop(name, None) or _read_and_check(name, home)


def _read_and_check(name: str, home: Home) -> Recipe:
    recipe = read_recipe(name)
    check_recipe(recipe)
    if home.registry_file.is_file():  # a check does not create one
        check_champion(Registry(home, recipe.publish.name), recipe)
    return recipe


@contextlib.contextmanager
def recorded(home: Home, recipe_name: str, flow_run_id: str = "") -> Iterator[RunRecord]:
    """The record of a run, written with its page when the block ends, with an error or without."""
    record = RunRecord.start(home, recipe_name, flow_run_id)
    try:
        yield record
        record.write()
    except BaseException as error:
        record.fail(error)
        raise
    finally:
        write_page(record)
