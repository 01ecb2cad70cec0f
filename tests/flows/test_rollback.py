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
        (tmp_path / name / "adapter").mkdir(parents=True)
        registry.promote(registry.register(tmp_path / name, key=name, trained=name, adapter=name, run=""))
    one = f"is now version 1\nits files are in {tmp_path / 'one'}"
    assert roll_back(recipe, None) == f"support-router: champion was version 2 and {one}"
    assert roll_back(recipe, "1").startswith("support-router: nothing changed")
    assert "version 1 is no longer champion, and no other version is" in roll_back(recipe, "none")
    assert registry.champion() is None
    assert roll_back(recipe, "none") == "support-router: nothing changed, it was so already"
    assert roll_back(recipe, "1") == f"support-router: champion was none and {one}"
