"""Whom a candidate is compared with, and that one adapter becomes champion once, on a real MLflow store."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from flows.night.champion import find_rival, missing_champion
from flows.recipe.read import read_recipe
from tasks.core.artifacts import ArtifactRef
from tasks.core.errors import RegistryError
from tasks.publish.publish import PublishJob, publish
from tasks.publish.registry import Registry
from tests.mlflow_store import home_with_store


class World:
    """A registry, and train, evaluate and publish artifacts as small as they can be."""

    def __init__(self, root: Path) -> None:
        self.root, self.home = root, home_with_store(root / "home")
        self.recipe = read_recipe("embedded")
        self.registry = Registry(self.home, self.recipe.publish.name)

    def artifact(self, stage: str, key: str, digest: str, evaluation: Any = None) -> ArtifactRef:
        folder = self.root / stage / key
        (folder / "adapter").mkdir(parents=True, exist_ok=True)
        (folder / "adapter" / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "digest": digest}))
        (folder / "manifest.json").write_text(json.dumps({"summary": {"details": {}}}))
        (folder / "evaluation.json").write_text(json.dumps(evaluation or {"decision": "publish"}))
        return ArtifactRef(stage, key, str(folder), digest, 1)

    def rival(self, trained: str) -> str | None:
        found = find_rival(self.registry, self.artifact("train", trained, trained))
        return found.version if found else None

    def night(self, trained: str, is_better: bool = True) -> bool:
        """Evaluate and publish an adapter that is better than the base, and, if so said, than its rival."""
        rival = self.rival(trained)
        rejects = rival is not None and not is_better
        against = {"name": self.registry.name, "version": rival} if rival else None
        evaluation = {"decision": "reject" if rejects else "publish", "against_champion": against}
        return self.publish(trained, f"{trained}-against-{rival}-{is_better}", evaluation)

    def publish(self, trained: str, key: str, evaluation: Any = None) -> bool:
        refs = {stage: self.artifact(stage, key, key, evaluation) for stage in ("collect", "validate", "evaluate")}
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


@pytest.mark.parametrize("to", ["none", "1"])
def test_a_candidate_that_was_rejected_against_a_champion_must_beat_it_also_after_it_was_taken_back(
    world: World, to: str
) -> None:
    assert world.night("one") and world.night("two")
    assert not world.night("tied", is_better=False)
    world.registry.roll_back(to)
    for _ in range(2):
        assert world.rival("tied") == "2" and not world.night("tied", is_better=False)
    assert world.champion == (None if to == "none" else "1")
    assert world.rival("new") == world.champion, "another candidate is held against whom users are served"
    assert world.night("tied"), "by another gate it beats that champion"
    assert not world.night("tied"), "and is promoted once"


def test_a_rejected_candidate_must_beat_a_later_champion(world: World) -> None:
    assert world.night("one")
    assert not world.night("tied", is_better=False)
    assert world.night("three")
    assert world.rival("tied") == world.champion == "3"


def test_a_taken_back_rival_whose_files_are_gone_is_told(world: World) -> None:
    assert world.night("one") and not world.night("tied", is_better=False)
    before, _ = world.registry.roll_back("none")
    assert before is not None
    shutil.rmtree(before.path)
    with pytest.raises(RegistryError, match="files of version 1") as caught:
        world.rival("tied")
    assert "another seed" in caught.value.remedy and "rollback" not in caught.value.remedy


def test_a_night_without_a_champion_explains_itself(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert missing_champion(world.registry, "embedded") == ""
    assert world.night("one") and world.night("two")
    assert missing_champion(world.registry, "embedded") == ""
    world.registry.roll_back("none")
    explained = missing_champion(world.registry, "embedded")
    assert "Former champions: 1, 2" in explained and explained.endswith("retune rollback --to 2 --recipe embedded")
    assert world.rival("new") is None and "must beat the base only" in capsys.readouterr().err
