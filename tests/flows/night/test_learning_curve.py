"""The trainings of a learning curve, one for each part of the training set."""

from __future__ import annotations

from flows.night.jobs import smaller_train_jobs, train_job
from flows.recipe.read import read_recipe
from tasks.core.artifacts import ArtifactRef
from tests.flows.conftest import WriteRecipe

VALIDATED = ArtifactRef("validate", "v", "/v", "digest", 100)


def test_a_recipe_trains_on_its_fractions_and_the_whole_is_not_one_of_them(write_recipe: WriteRecipe) -> None:
    plain = read_recipe(write_recipe(lambda recipe: None))
    assert smaller_train_jobs(plain, VALIDATED) == ()
    recipe = read_recipe(write_recipe(lambda recipe: recipe["train"].update(fractions=[0.25, 0.5, 1.0])))
    assert [job.fraction for job in smaller_train_jobs(recipe, VALIDATED)] == [0.25, 0.5]
    jobs = (*smaller_train_jobs(recipe, VALIDATED), train_job(recipe, VALIDATED))
    keys = {job.key().hex for job in jobs}
    assert len(keys) == 3
    assert train_job(plain, VALIDATED).key().hex == train_job(recipe, VALIDATED).key().hex, (
        "a curve trains nothing anew"
    )
