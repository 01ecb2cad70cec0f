"""What can be wrong with a model folder is found without loading it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.core.config import ModelSource
from tasks.core.errors import ModelError
from tasks.core.models import check_model, model_digest
from tests.small_folder import write_small_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_small_folder(tmp_path)


def source(folder: Path) -> ModelSource:
    return ModelSource(path=str(folder))


def test_a_complete_folder_and_a_hub_id_pass(folder: Path) -> None:
    hub = ModelSource(path="Qwen/Qwen2.5-0.5B-Instruct")
    assert source(folder).is_local and not hub.is_local
    check_model(source(folder))
    check_model(hub)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist") as caught:
        check_model(source(tmp_path / "none"))
    assert caught.value.where == str(tmp_path / "none") and "model.path" in caught.value.remedy


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ModelError, match=f"no {name}"):
        check_model(source(folder))


def test_a_config_that_is_no_json_is_named(folder: Path) -> None:
    (folder / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(ModelError, match="not valid JSON") as caught:
        check_model(source(folder))
    assert caught.value.where.endswith("config.json")


def test_weights_that_are_missing_or_not_safetensors_are_reported(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="no weights") as caught:
        check_model(source(folder))
    assert "convert" in caught.value.remedy


def test_the_revision_changes_with_the_weights_and_not_with_the_card_or_the_place(folder: Path) -> None:
    before = model_digest(source(folder))
    (folder / "README.md").write_text("a card", encoding="utf-8")
    moved = folder.rename(folder.with_name("moved"))
    assert model_digest(source(moved)) == before
    (moved / "model.safetensors").write_bytes(b"weightz")
    assert model_digest(source(moved)) != before


def test_the_revision_of_a_hub_model_is_its_id_and_commit() -> None:
    digests = {model_digest(ModelSource(path=path, revision=commit)) for path in "ab" for commit in (None, "1")}
    assert len(digests) == 4
