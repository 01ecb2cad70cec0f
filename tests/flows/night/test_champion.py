"""What tonight's training goes on from, and in which form the champion is its rival, on a real MLflow store."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from flows.night.champion import check_champion, find_rival, initial_adapter
from flows.night.jobs import train_job
from flows.night.run import night
from flows.recipe.read import read_recipe
from flows.recipe.recipe import Recipe
from flows.report.record import read_record
from tasks.core.artifacts import ArtifactRef
from tasks.core.errors import ModelError, RecipeError, RegistryError
from tasks.core.models import model_digest
from tasks.publish.registry import Registry
from tasks.train.train import InitialAdapter
from tests.flows.conftest import WriteRecipe
from tests.mlflow_store import home_with_store
from tests.small_folder import write_safetensors

NAME = "support-router"
LORA = {"peft_type": "LORA", "r": 16, "lora_alpha": 32, "use_rslora": False, "use_dora": False, "bias": "none",
        "target_modules": ["q_proj", "v_proj"]}  # fmt: skip


class World:
    """A recipe that goes on from its champion, and versions that were published."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.home = home_with_store(root / "home")
        self.registry = Registry(self.home, NAME)
        self.recipe = self.with_training()

    def with_training(self, **changes: Any) -> Recipe:
        recipe = read_recipe("embedded")
        settings = {"initial_adapter": "champion", **changes}
        train = type(recipe.train).model_validate({**recipe.train.model_dump(), **settings})
        return recipe.model_copy(update={"train": train})

    def publish(
        self, learned_from: str, initial: InitialAdapter | None = None, method: str = "qlora", **config: Any
    ) -> InitialAdapter:
        """Publish what a training set (its digest) made; returns it as something to go on from."""
        number = len(self.registry.versions()) + 1
        folder = self.root / f"v{number}"
        if method != "full":
            (folder / "adapter").mkdir(parents=True)
            written = {**LORA, **config}
            (folder / "adapter" / "adapter_config.json").write_text(json.dumps(written), encoding="utf-8")
            write_safetensors(folder / "adapter" / "adapter_model.safetensors", {"lora_A": (2, 2)})
        (folder / "merged").mkdir(parents=True)
        lineage = {
            "method": method,
            "base": {"model": "seedling", "digest": model_digest(self.recipe.model)},
            "artifacts": [{"stage": "validate", "digest": learned_from}],
            "initial_adapter": {"version": initial.version, "digest": initial.digest} if initial else None,
        }
        (folder / "lineage.json").write_text(json.dumps(lineage), encoding="utf-8")
        one = self.registry.register(folder, key=f"k{number}", trained=f"t{number}", adapter=f"a{number}", run="")
        self.registry.promote(one)
        return InitialAdapter(str(folder / "adapter"), f"a{number}", str(number))

    def start(self, training_set: str, recipe: Recipe | None = None) -> InitialAdapter | None:
        return initial_adapter(self.registry, recipe or self.recipe, validated(training_set))

    def key(self, training_set: str) -> str:
        return train_job(self.recipe, validated(training_set), self.start(training_set)).key().hex


def validated(digest: str) -> ArtifactRef:
    return ArtifactRef("validate", digest, f"/{digest}", digest, 10)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_without_a_champion_and_without_the_wish_training_starts_fresh(world: World) -> None:
    assert world.start("monday") is None
    world.publish("monday")
    assert world.start("tuesday", world.with_training(initial_adapter="fresh")) is None


def test_news_are_learned_on_top_of_the_champion(world: World) -> None:
    first = world.publish("monday")
    assert world.start("tuesday") == first
    second = world.publish("tuesday", initial=first)
    assert world.start("wednesday") == second
    world.registry.roll_back()
    assert world.start("wednesday") == first


def test_a_night_without_news_starts_where_the_champion_started_and_finds_its_artifact(world: World) -> None:
    fresh = world.key("monday")
    first = world.publish("monday")
    assert world.start("monday") is None and world.key("monday") == fresh
    on_top = world.key("tuesday")
    assert on_top != train_job(world.recipe, validated("tuesday")).key().hex
    world.publish("tuesday", initial=first)
    assert world.start("tuesday") == first and world.key("tuesday") == on_top
    world.registry.roll_back()
    assert world.key("tuesday") == on_top, "and after a rollback nothing is trained anew"


@pytest.mark.parametrize("to", [None, "1", "none"])
def test_after_a_rollback_to_whichever_version_a_night_without_news_trains_nothing_anew(
    world: World, to: str | None
) -> None:
    first = world.publish("monday")
    second = world.publish("tuesday", initial=first)
    on_top = world.key("wednesday")
    world.publish("wednesday", initial=second)
    world.registry.roll_back(to)
    assert world.start("wednesday") == second and world.key("wednesday") == on_top
    champion = {None: second, "1": first, "none": None}[to]
    assert world.start("thursday") == champion, "news are learned on top of whom users are served"


@pytest.mark.parametrize(
    ("published", "tonight", "what", "remedy"),
    [
        ({"r": 8}, {}, "its rank is 8, not 16", "set train.rank: 8 as it was trained"),
        ({"lora_alpha": 4, "use_dora": True}, {}, "its alpha is 4, not 32; its use_dora is true, not false",
         "set train.alpha: 4, train.use_dora: true as"),
        ({"method": "lora"}, {}, "by the method lora, and the recipe's is qlora", "set train.method: lora"),
        ({}, {"target_modules": ["q_proj"]}, "on the layers q_proj, v_proj", "train.target_modules: [q_proj, v_proj]"),
        ({"method": "full"}, {}, "no adapter that could be read", "set train.initial_adapter: fresh"),
    ],
    ids=["rank", "two", "method", "layers", "no adapter"],
)  # fmt: skip
def test_a_champion_that_does_not_fit_is_told_with_what_would_make_it_fit(
    world: World, published: dict[str, Any], tonight: dict[str, Any], what: str, remedy: str
) -> None:
    world.publish("monday", **published)
    with pytest.raises(RecipeError, match="Version 1 of 'support-router' does not fit") as caught:
        world.start("tuesday", world.with_training(**tonight))
    assert what in caught.value.what and remedy in caught.value.remedy


@pytest.mark.parametrize("layers", [["self_attn.q_proj", "v_proj"], r".*\.self_attn\.(q|v)_proj"])
def test_layers_that_may_be_the_same_are_left_to_the_training(world: World, layers: Any) -> None:
    first = world.publish("monday", target_modules=layers)
    assert world.start("tuesday", world.with_training(target_modules=["q_proj", "v_proj"])) == first


def test_a_night_that_does_not_fit_its_champion_ends_before_anything_starts(
    world: World, write_recipe: WriteRecipe
) -> None:
    path = write_recipe(lambda recipe: recipe["train"].update(initial_adapter="champion"))
    world.publish("monday")
    check_champion(world.registry, world.recipe)
    with pytest.raises(RecipeError, match="does not fit the recipe: it was trained on another base"), night(path):
        pytest.fail("the night began")
    assert read_record(world.home).status == "failed"


def test_a_champion_whose_weights_are_cut_off_ends_the_night_before_anything_starts(
    world: World, write_recipe: WriteRecipe
) -> None:
    weights = Path(world.publish("monday").path) / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(ModelError, match="cut off") as caught, night(write_recipe(lambda recipe: None)):
        pytest.fail("the night began")
    assert caught.value.where == str(weights)


def test_a_champion_of_another_base_is_told(world: World, tmp_path: Path) -> None:
    world.publish("monday")
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text("{}", encoding="utf-8")
    model = world.recipe.model.model_copy(update={"path": str(other)})
    with pytest.raises(RecipeError, match=r"trained on another base \(seedling\)"):
        world.start("tuesday", world.recipe.model_copy(update={"model": model}))


def test_a_champion_without_a_lineage_is_not_said_to_be_of_another_base(world: World) -> None:
    (Path(world.publish("monday").path).parent / "lineage.json").unlink()
    with pytest.raises(RecipeError, match=r"its lineage\.json is missing or does not name its base") as caught:
        world.start("tuesday")
    assert "another base" not in caught.value.what and caught.value.remedy == "set train.initial_adapter: fresh"


@pytest.mark.parametrize(
    ("published", "served"),
    [
        ({}, "adapter"),
        ({"use_dora": True}, "merged"),
        ({"bias": "all"}, "merged"),
        ({"method": "prompt_tuning", "peft_type": "PROMPT_TUNING"}, "merged"),
        ({"method": "full"}, "merged"),
    ],
    ids=["lora", "dora", "bias", "prompt tuning", "full"],
)
def test_the_champion_is_its_merged_model_where_its_adapter_cannot_be_served_beside_the_base(
    world: World, published: dict[str, Any], served: str
) -> None:
    world.publish("monday", **published)
    found = find_rival(world.registry, ArtifactRef("train", "t", "/t", "another", 1))
    assert found is not None
    assert (Path(found.folder).name, found.is_whole, found.digest) == (served, served == "merged", "a1")


def test_a_champion_whose_files_are_gone_is_told_before_anybody_is_asked(world: World) -> None:
    shutil.rmtree(Path(world.publish("monday").path).parent)
    with pytest.raises(RegistryError, match=r"files of version 1 of .* are gone") as caught:
        find_rival(world.registry, ArtifactRef("train", "t", "/t", "another", 1))
    assert "retune rollback --to" in caught.value.remedy
