"""A run checks its recipe once, before anything starts, and leaves no record if the check stops it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flows.night import preparation
from flows.night.preparation import check_before_start, recorded
from flows.night.run import night
from flows.recipe.recipe import Recipe
from flows.report.record import read_record
from tasks.core.errors import RecipeError, SourceError
from tasks.core.home import Home
from tests.flows.conftest import WriteRecipe


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def test_the_night_after_a_check_does_not_check_again_and_the_next_night_does(
    home: Home, write_recipe: WriteRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[Recipe] = []
    monkeypatch.setattr(preparation, "check_recipe", checked.append)
    path = write_recipe(lambda recipe: None)
    check_before_start(path, home)
    assert len(checked) == 1 and not home.runs.exists(), "a run that passes has no record yet"
    with pytest.raises(KeyError), night(path) as tonight:
        assert tonight.recipe is checked[0]
        raise KeyError
    assert len(checked) == 1
    with pytest.raises(KeyError), night(path):
        raise KeyError
    assert len(checked) == 2


def no_source(recipe: dict[str, Any]) -> None:
    recipe["collect"].update(sources=[{"path": "none.csv"}])


def test_a_run_that_the_check_stops_leaves_the_last_night_the_latest(home: Home, write_recipe: WriteRecipe) -> None:
    with recorded(home, "mine") as last:
        last.status = "published"
    with pytest.raises(SourceError, match="does not exist"):
        check_before_start(write_recipe(no_source), home)
    path = Path(write_recipe(lambda recipe: None))
    path.write_text("name: mine\n\tseed: 1\n", encoding="utf-8")
    with pytest.raises(RecipeError, match="not valid YAML"):
        check_before_start(str(path), home)
    with pytest.raises(RecipeError, match="no recipe 'embeded'"):
        check_before_start("embeded", home)
    assert read_record(home).run_id == last.run_id


def test_a_scheduled_night_that_the_check_stops_leaves_its_record_and_its_page(
    home: Home, write_recipe: WriteRecipe
) -> None:
    """Its message was on the terminal of no one."""
    path = write_recipe(no_source)
    with pytest.raises(SourceError, match="does not exist") as caught, night(path):
        pass
    record = read_record(home)
    assert record.status == "failed" and record.started_as == path
    assert record.run_id in caught.value.__notes__[0]
    assert "does not exist" in (Path(record.folder) / "report.md").read_text(encoding="utf-8")


def test_a_check_creates_no_registry_unless_the_recipe_continues_from_a_champion(
    home: Home, write_recipe: WriteRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparation, "check_recipe", lambda recipe: None)
    check_before_start(write_recipe(lambda recipe: None), home)
    assert not home.root.exists()
