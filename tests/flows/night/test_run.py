"""A run that cannot go on ends where that is known, and says why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flows.night.data_checks import require_documents, require_trainable
from flows.night.jobs import collect_job
from flows.night.run import night
from flows.recipe.read import read_recipe
from flows.recipe.recipe import Recipe
from tasks.core.artifacts import ArtifactRef
from tasks.core.errors import SourceError, TrainingError
from tasks.core.home import Home
from tasks.core.stage import run_stage
from tests.flows.conftest import WriteRecipe
from tests.tiny_model import tiny_tokenizer

HEADER = "id,message,queue,topic\n"


def collected_of(path: str, home: Home) -> tuple[Recipe, ArtifactRef]:
    recipe = read_recipe(path)
    ref = run_stage(collect_job(recipe, home), home, "r").ref
    return recipe, ref


@pytest.mark.parametrize(
    ("rows", "settings", "what", "where"),
    [
        ("", {}, "The sources are empty: they have no rows", "messages.csv"),
        ("1,lost it,cards,a\n", {"where": {"queue": ["bills"]}}, "filtered out all 1 source rows", "messages.csv"),
        (
            "1,lost it,?,a\n2,,cards,b\n",
            {},
            "2 source rows .* \\(unknown_label 1, missing 1\\)",
            "quarantine",
        ),
    ],
    ids=["header alone", "all left out", "all quarantined"],
)
def test_a_night_without_any_document_ends_after_it_collected(
    tmp_path: Path, write_recipe: WriteRecipe, rows: str, settings: dict[str, Any], what: str, where: str
) -> None:
    home = Home(tmp_path / "home")
    recipe, collected = collected_of(write_recipe(lambda recipe: None), home)
    require_documents(recipe, collected)
    path = write_recipe(lambda recipe: recipe["collect"].update(settings))
    (tmp_path / "messages.csv").write_text(HEADER + rows, encoding="utf-8")
    recipe, collected = collected_of(path, home)
    with pytest.raises(SourceError, match=what) as caught:
        require_documents(recipe, collected)
    assert where in caught.value.where and caught.value.remedy


def test_a_night_ends_before_it_generates_if_the_template_refuses_every_conversation(
    tmp_path: Path, write_recipe: WriteRecipe
) -> None:
    path = write_recipe(lambda recipe: recipe["collect"].update(holdout_fraction=0.5))
    rows = "".join(f"{number},lost it {number},cards,lost card\n" for number in range(8))
    (tmp_path / "messages.csv").write_text(HEADER + rows, encoding="utf-8")
    recipe, collected = collected_of(path, Home(tmp_path / "home"))
    tiny_tokenizer().save_pretrained(recipe.model.path)
    require_trainable(recipe, collected)
    refuses = "{{ raise_exception('System role not supported') }}"
    (Path(recipe.model.path) / "chat_template.jinja").write_text(refuses, encoding="utf-8")
    with pytest.raises(TrainingError, match=r"template_refuses .* System role not supported"):
        require_trainable(recipe, collected)


def test_an_error_within_a_night_names_the_run(write_recipe: WriteRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.night.preparation.check_recipe", lambda recipe: None)
    with pytest.raises(SourceError) as caught, night(write_recipe(lambda recipe: None)) as one:
        raise SourceError("It is gone")
    assert one.record.run_id in caught.value.__notes__[0]
