"""A rollback says what it did."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.rollback import roll_back
from tasks.core.errors import RegistryError
from tasks.core.home import Home
from tasks.publish.registry import Registry
from tests.flows.conftest import WriteRecipe


def test_a_rollback_moves_the_champion_of_the_recipe_and_says_from_where_to_where(
    tmp_path: Path, write_recipe: WriteRecipe
) -> None:
    recipe = write_recipe(lambda recipe: None)
    with pytest.raises(RegistryError, match="'support-router' has no champion"):
        roll_back(recipe, None)
    registry = Registry(Home(tmp_path / "home"), "support-router")
    for name in ("one", "two"):
        path = Path("/artifacts") / name
        registry.promote(registry.register(path, key=name, trained=name, adapter=name, run=""))
    assert roll_back(recipe, None) == (
        "support-router: champion was version 2 and is now version 1\nits files are in /artifacts/one"
    )
    assert "version 1 is no longer champion, and no other version is" in roll_back(recipe, "none")
    assert registry.champion() is None
