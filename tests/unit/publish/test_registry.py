"""The registry on a real MLflow store: every step can be repeated, and the champion moves once."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tasks.core.errors import RegistryError
from tasks.core.home import Home
from tasks.publish.registry import CANDIDATE, CHAMPION, PROMOTED_TAG, Published, Registry
from tests.mlflow_store import home_with_store


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(home_with_store(tmp_path / "home"), "router")


@pytest.fixture(autouse=True)
def artifacts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def register(registry: Registry, name: str, rejected_against: str = "") -> Published:
    """Register an artifact of this name in the working folder."""
    path = Path("artifacts", name)
    (path / "merged").mkdir(parents=True, exist_ok=True)
    named = {"key": name, "trained": f"t-{name}", "adapter": f"a-{name}"}
    return registry.register(path, run="", rejected_against=rejected_against, **named)


def publish(registry: Registry, *names: str) -> None:
    for name in names:
        assert registry.promote(register(registry, name))


def champion(registry: Registry) -> str | None:
    found = registry.champion()
    return found.version if found else None


def alias(registry: Registry, name: str) -> str:
    return str(registry._client.get_model_version_by_alias("router", name).version)


def test_there_is_no_champion_before_the_first_and_no_version(registry: Registry) -> None:
    assert registry.champion() is None and registry.versions() == []
    register(registry, "one")
    assert registry.champion() is None


def test_an_artifact_is_registered_once(registry: Registry) -> None:
    first, again = register(registry, "one"), register(registry, "one")
    assert first == again == Published("router", "1", "artifacts/one", "t-one", "a-one", None)
    assert register(registry, "two").version == "2"
    assert [version.version for version in registry.versions()] == ["1", "2"]


def test_the_candidate_is_the_version_that_was_registered_last(registry: Registry) -> None:
    register(registry, "one")
    register(registry, "two")
    assert alias(registry, CANDIDATE) == "2"
    register(registry, "one")
    assert alias(registry, CANDIDATE) == "1"


def test_a_version_is_promoted_once_for_good(registry: Registry) -> None:
    one = register(registry, "one")
    assert registry.promote(one) and not registry.promote(one)
    assert champion(registry) == "1"
    registry.roll_back("none")
    assert not registry.promote(one)
    assert champion(registry) is None


def test_a_champion_knows_whom_it_replaced(registry: Registry) -> None:
    publish(registry, "one", "two")
    assert champion(registry) == "2"
    assert [version.previous for version in registry.versions()] == [None, "1"]


def test_the_way_back_leads_from_champion_to_champion_and_ends_at_the_first(registry: Registry) -> None:
    publish(registry, "one", "two")
    register(registry, "rejected")
    publish(registry, "four")
    steps = [registry.roll_back(), registry.roll_back()]
    assert [tuple(one and one.version for one in step) for step in steps] == [("4", "2"), ("2", "1")]
    with pytest.raises(RegistryError, match="first champion") as caught:
        registry.roll_back()
    assert "--to none" in caught.value.remedy
    assert champion(registry) == "1"


def test_after_a_rollback_the_next_champion_replaces_the_one_that_was_restored(registry: Registry) -> None:
    publish(registry, "one", "two")
    registry.roll_back()
    publish(registry, "three")
    assert registry.version("3").previous == "1"
    assert registry.roll_back()[1] == registry.version("1")


def test_a_version_can_be_named_also_a_later_one(registry: Registry) -> None:
    publish(registry, "one", "two", "three")
    registry.roll_back("1")
    assert champion(registry) == "1"
    registry.roll_back("3")
    assert champion(registry) == "3"


def test_after_the_champion_was_taken_back_any_former_champion_can_be_restored(registry: Registry) -> None:
    publish(registry, "one", "two")
    before, after = registry.roll_back("none")
    assert before == registry.version("2") and after is None and champion(registry) is None
    assert registry.roll_back("none") == (None, None), "the same again changes nothing"
    with pytest.raises(RegistryError, match="has no champion: it was taken back") as caught:
        registry.roll_back()
    assert "champion (1, 2)" in caught.value.remedy and caught.value.remedy.endswith("retune rollback --to 2")
    for number in ("1", "2"):
        assert registry.roll_back(number) == (None, registry.version(number)) and champion(registry) == number
        registry.roll_back("none")


@pytest.mark.parametrize("to", [None, "none", "1"])
def test_where_no_version_was_ever_champion_there_is_nothing_to_go_back_to(registry: Registry, to: str | None) -> None:
    for _ in range(2):
        with pytest.raises(RegistryError, match="has no champion, and never had one"):
            registry.roll_back(to)
        register(registry, "rejected")


def test_a_champion_that_replaced_none_names_the_former_ones(registry: Registry) -> None:
    publish(registry, "one", "two")
    registry.roll_back("none")
    publish(registry, "three")
    with pytest.raises(RegistryError, match="Version 3 of 'router' replaced no other") as caught:
        registry.roll_back()
    assert "(1, 2)" in caught.value.remedy and "--to 2;" in caught.value.remedy and "--to none" in caught.value.remedy


def test_going_back_to_the_champion_itself_changes_nothing(registry: Registry) -> None:
    publish(registry, "one", "two")
    assert registry.roll_back("2") == (registry.version("2"), registry.version("2"))
    assert champion(registry) == "2"


@pytest.mark.parametrize("to", [None, "1"])
def test_a_version_whose_files_are_gone_is_not_restored(registry: Registry, to: str | None) -> None:
    publish(registry, "one", "two", "three")
    registry.roll_back()
    shutil.rmtree(Path("artifacts", "one"))
    with pytest.raises(RegistryError, match="files of version 1 of 'router' are gone") as caught:
        registry.roll_back(to)
    assert caught.value.where == "artifacts/one" and caught.value.remedy.endswith("--to: 2, 3")
    assert champion(registry) == "2"


def test_the_latest_champion_that_a_candidate_was_rejected_against_is_remembered(registry: Registry) -> None:
    publish(registry, "one", "two")
    assert registry.rejected_against("t-tied") is None
    for key, number in (("k1", "1"), ("k2", "2"), ("k3", "1"), ("k4", "")):
        registry.register(Path("x"), key=key, trained="t-tied", adapter="a", run="", rejected_against=number)
    assert registry.rejected_against("t-tied") == registry.version("2")
    assert registry.rejected_against("t-two") is None


def test_a_version_that_never_passed_the_gate_is_refused(registry: Registry) -> None:
    publish(registry, "one", "two")
    register(registry, "rejected")
    with pytest.raises(RegistryError, match="never champion") as caught:
        registry.roll_back("3")
    assert "1, 2" in caught.value.remedy and champion(registry) == "2"


@pytest.mark.parametrize("number", ["9", "two"])
def test_a_version_that_does_not_exist_is_refused_with_those_that_do(registry: Registry, number: str) -> None:
    publish(registry, "one")
    with pytest.raises(RegistryError, match=f"no version {number}") as caught:
        registry.roll_back(number)
    assert caught.value.remedy.endswith("1") and champion(registry) == "1"


@pytest.mark.parametrize("step", ["set_model_version_tag", "set_registered_model_alias"])
def test_a_promotion_that_was_killed_at_any_step_is_finished_by_the_next(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Killed at the tag: before it (PREVIOUS) or after the alias (PROMOTED); killed at the alias: between them."""
    publish(registry, "one")
    two = register(registry, "two")
    real = getattr(registry._client, step)

    def killed(*arguments: Any) -> None:
        if step == "set_registered_model_alias" or arguments[2] == PROMOTED_TAG:
            raise KeyboardInterrupt
        real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(registry._client, step, killed)
        with pytest.raises(KeyboardInterrupt):
            registry.promote(two)
    assert registry.promote(two) and not registry.promote(two)
    assert champion(registry) == "2" and registry.version("2").previous == "1"


def test_a_registration_that_was_killed_before_its_alias_is_finished_by_the_next(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*arguments: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(registry._client, "set_registered_model_alias", killed)
        with pytest.raises(KeyboardInterrupt):
            register(registry, "one")
    assert register(registry, "one").version == "1"
    assert alias(registry, CANDIDATE) == "1"


def test_a_registry_that_fails_is_not_taken_for_one_without_a_champion(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a candidate would need to beat nobody, and its version would forget whom it replaced."""
    from mlflow.exceptions import MlflowException

    def fail(*arguments: Any) -> None:
        raise MlflowException("database is locked")

    publish(registry, "one")
    monkeypatch.setattr(registry._client, "get_model_version_by_alias", fail)
    with pytest.raises(MlflowException, match="database is locked"):
        registry.champion()


def test_models_of_other_names_are_left_alone(registry: Registry, tmp_path: Path) -> None:
    publish(registry, "one", "two")
    other = Registry(Home(tmp_path / "home"), "other")
    publish(other, "one")
    assert (other.champion() or register(other, "x")).version == "1"
    registry.roll_back()
    assert champion(other) == "1" and alias(registry, CHAMPION) == "1"
