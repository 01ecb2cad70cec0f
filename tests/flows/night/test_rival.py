"""Whom a candidate is compared with, and that one adapter becomes champion once, on a real MLflow store."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.night.champion import find_rival
from flows.recipe.read import read_recipe
from tasks.core.artifacts import ArtifactRef
from tasks.publish.publish import PublishJob, publish
from tasks.publish.registry import Registry
from tests.mlflow_store import home_with_store


class World:
    """A registry, and train, evaluate and publish artifacts as small as they can be."""

    def __init__(self, root: Path) -> None:
        self.root, self.home = root, home_with_store(root / "home")
        self.recipe = read_recipe("embedded")
        self.registry = Registry(self.home, self.recipe.publish.name)

    def artifact(self, stage: str, key: str, digest: str) -> ArtifactRef:
        folder = self.root / stage / key
        (folder / "adapter").mkdir(parents=True, exist_ok=True)
        (folder / "adapter" / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "digest": digest}))
        (folder / "manifest.json").write_text(json.dumps({"summary": {"details": {}}}))
        (folder / "evaluation.json").write_text(json.dumps({"decision": "publish"}))
        return ArtifactRef(stage, key, str(folder), digest, 1)

    def rival(self, trained: str) -> str | None:
        found = find_rival(self.registry, self.artifact("train", trained, trained))
        return found.version if found else None

    def publish(self, trained: str, key: str) -> bool:
        refs = {stage: self.artifact(stage, key, key) for stage in ("collect", "validate", "evaluate")}
        job = PublishJob(
            self.recipe.publish,
            "embedded",
            self.recipe.model,
            {"method": "qlora"},
            refs["collect"],
            None,
            refs["validate"],
            self.artifact("train", trained, trained),
            refs["evaluate"],
        )
        return publish(job, self.artifact("publish", key, key), self.registry)[1]

    @property
    def champion(self) -> str | None:
        found = self.registry.champion()
        return found.version if found else None


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_new_candidate_has_to_beat_the_champion_and_the_champion_whom_it_replaced(world: World) -> None:
    assert world.rival("one") is None
    assert world.publish("one", "k1")
    assert world.rival("two") == "1"
    assert world.publish("two", "k2")
    assert world.rival("two") == "1"
    assert world.rival("three") == "2"


def test_an_adapter_becomes_champion_once_whatever_else_changes(world: World) -> None:
    assert world.publish("one", "k1")
    assert world.publish("two", "k2")
    assert not world.publish("two", "k2"), "the same night again"
    assert not world.publish("two", "another-probe"), "the same adapter, evaluated anew"
    assert world.champion == "2"
    world.registry.roll_back()
    assert world.champion == "1"
    assert not world.publish("two", "k2")
    assert not world.publish("two", "yet-another-probe")
    assert world.champion == "1", "a rolled-back adapter came back by itself"


def test_a_champion_whose_publishing_was_killed_before_its_last_tag_is_not_its_own_rival(world: World) -> None:
    assert world.publish("one", "k1")
    world.registry._client.delete_model_version_tag(world.registry.name, "1", "retune.promoted")
    assert world.rival("one") is None
    assert world.publish("one", "k1"), "the killed publish is finished"
    assert len(world.registry.versions()) == 1
