"""A run that cannot go on ends where that is known, and says why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flows.night.run import Night, night
from flows.recipe.read import read_recipe
from flows.report.record import RunRecord
from tasks.core.artifacts import ArtifactRef
from tasks.core.errors import SourceError
from tasks.core.home import Home
from tasks.core.stage import run_stage
from tests.flows.conftest import WriteRecipe

HEADER = "id,message,queue,topic\n"


def collected_of(path: str, home: Home) -> tuple[Night, ArtifactRef]:
    recipe = read_recipe(path)
    ref = run_stage(recipe.collect_job(home), home, "r").ref
    return Night(recipe, home, RunRecord.start(home, path, "")), ref


@pytest.mark.parametrize(
    ("rows", "settings", "what", "where"),
    [
        ("", {}, "The sources are empty: they hold no row", "messages.csv"),
        ("1,lost it,cards,a\n", {"where": {"queue": ["bills"]}}, "wants none of the 1 rows", "messages.csv"),
        ("1,lost it,?,a\n2,,cards,b\n", {}, "None of the 2 rows .* \\(unknown_label 1, missing 1\\)", "quarantine"),
    ],
    ids=["header alone", "all left out", "all quarantined"],
)
def test_a_night_without_any_document_ends_after_it_collected(
    tmp_path: Path, write_recipe: WriteRecipe, rows: str, settings: dict[str, Any], what: str, where: str
) -> None:
    home = Home(tmp_path / "home")
    one, collected = collected_of(write_recipe(lambda recipe: None), home)
    one.require_documents(collected)
    path = write_recipe(lambda recipe: recipe["collect"].update(settings))
    (tmp_path / "messages.csv").write_text(HEADER + rows, encoding="utf-8")
    one, collected = collected_of(path, home)
    with pytest.raises(SourceError, match=what) as caught:
        one.require_documents(collected)
    assert where in caught.value.where and caught.value.remedy


def test_an_error_within_a_night_names_the_run(write_recipe: WriteRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.recipe.recipe.Recipe.check", lambda recipe: None)
    with pytest.raises(SourceError) as caught, night(write_recipe(lambda recipe: None)) as one:
        raise SourceError("It is gone")
    assert one.record.run_id in caught.value.__notes__[0]
