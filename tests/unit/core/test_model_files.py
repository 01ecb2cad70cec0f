"""A model folder that is not whole or not readable is refused with the file and the remedy, without loading it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.core.config import ModelSource
from tasks.core.errors import ModelError
from tasks.core.model_files import INDEX, check_adapter_files, check_tokens
from tasks.core.models import check_model
from tests.small_folder import VOCABULARY, write_safetensors, write_small_folder, write_tokenizer

POINTERS = {
    "lfs": "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 134217728\n",
    "xet": "# xet version 0\nfilesize = 134217728\nhash = '4d7a'\n",
    "annex": "/annex/objects/SHA256E-s134217728--4d7a.safetensors\n",
}
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_small_folder(tmp_path / "model")


def refused(folder: Path, match: str) -> ModelError:
    with pytest.raises(ModelError, match=match) as caught:
        check_model(ModelSource(path=str(folder)))
    assert caught.value.where and caught.value.remedy
    return caught.value


def sharded(folder: Path) -> Path:
    (folder / "model.safetensors").unlink()
    write_safetensors(folder / SHARDS[0], {"model.embed_tokens.weight": (4, 2)})
    write_safetensors(folder / SHARDS[1], {"model.norm.weight": (2,)})
    placed = {"model.embed_tokens.weight": SHARDS[0], "model.norm.weight": SHARDS[1]}
    (folder / INDEX).write_text(json.dumps({"weight_map": placed}), encoding="utf-8")
    return folder


def test_whole_folders_pass_in_one_file_and_in_shards(folder: Path) -> None:
    check_model(ModelSource(path=str(folder)))
    check_model(ModelSource(path=str(sharded(folder))))


@pytest.mark.parametrize("pointer", POINTERS)
@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "tokenizer.model"])
def test_a_pointer_in_place_of_a_file_is_named(folder: Path, name: str, pointer: str) -> None:
    (folder / name).write_text(POINTERS[pointer], encoding="utf-8")
    error = refused(folder, f"{name} is a pointer")
    assert error.where == str(folder / name) and "git lfs pull" in error.remedy


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-3])


def cut_in_the_header(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:20])


def grow(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"more")


def a_page(file: Path) -> None:
    file.write_text("<!DOCTYPE html><title>404</title>" * 9, encoding="utf-8")


@pytest.mark.parametrize("damage", [cut, cut_in_the_header, grow, a_page])
def test_weights_that_are_cut_off_or_something_else_are_named_with_their_size(
    folder: Path, damage: Callable[[Path], None]
) -> None:
    for file in (folder / "model.safetensors", sharded(folder) / SHARDS[1]):
        if file.exists():
            damage(file)
            error = refused(folder, f"{file.name} is cut off, or not a safetensors file")
            assert error.where == str(file) and f"{file.stat().st_size:,} bytes" in error.what


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "generation_config.json"])
def test_an_empty_file_and_a_link_to_nothing_are_named(folder: Path, name: str) -> None:
    file = folder / name
    file.write_bytes(b"")
    assert refused(folder, f"{name} is empty").where == str(file)
    file.unlink()
    file.symlink_to("/gone/blobs/4d7a")
    assert name in refused(folder, "cannot be read|has no config").what


def test_missing_shards_and_missing_tensors_are_counted_and_named(folder: Path) -> None:
    (sharded(folder) / SHARDS[1]).unlink()
    error = refused(folder, "1 of 2 files of weights that the index names are missing: " + SHARDS[1])
    assert error.where == str(folder / INDEX)
    write_safetensors(folder / SHARDS[1], {"model.other.weight": (2,)})
    refused(folder, r"lacks tensors that the index names: model\.norm\.weight")
    (folder / INDEX).unlink()
    refused(folder, "neither model.safetensors nor")


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"weight_map": {}}', '{"weight_map": {"a": 1}}', "\xff"])
def test_an_index_that_names_no_files_is_refused(folder: Path, content: str) -> None:
    (sharded(folder) / INDEX).write_text(content, encoding="latin-1")
    refused(folder, "no weight_map|not valid JSON")


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "generation_config.json", "vocab.json"])
def test_a_file_that_is_no_json_is_named(folder: Path, name: str) -> None:
    (folder / name).write_text('{"a": ', encoding="utf-8")
    assert refused(folder, f"{name} is not valid JSON").where == str(folder / name)


def test_a_tokenizer_that_the_library_cannot_read_is_named(folder: Path) -> None:
    (folder / "tokenizer.json").write_text('{"model": {"type": "Odd"}}', encoding="utf-8")
    refused(folder, "tokenizer.json cannot be read")


def test_tokens_beyond_the_embeddings_are_named(folder: Path) -> None:
    write_tokenizer(folder, {**VOCABULARY, "c": 3, "d": 4, "e": 5})
    error = refused(folder, r"2 tokens beyond the model's 4 embeddings: d \(4\), e \(5\)")
    assert "resize" in error.remedy
    (folder / "config.json").write_text('{"text_config": {"vocab_size": 6}}', encoding="utf-8")
    refused(folder, "the model's 4 embeddings")  # the weights have fewer than the config says
    write_safetensors(folder / "model.safetensors", {"model.embed_tokens.weight": (6, 2)})
    check_model(ModelSource(path=str(folder)))


@pytest.mark.parametrize("named", ["chat_template.jinja", "chat_template", "eos_token"])
def test_a_special_token_without_an_embedding_is_refused_only_if_something_writes_it(folder: Path, named: str) -> None:
    write_tokenizer(folder, {**VOCABULARY, "c": 3}, special=["<|picture|>"])
    check_model(ModelSource(path=str(folder)))
    if named.endswith(".jinja"):
        (folder / named).write_text("{{ messages }}<|picture|>", encoding="utf-8")
    else:
        config = {named: "<|picture|>"}
        (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    refused(folder, r"1 tokens beyond the model's 4 embeddings: <\|picture\|> \(4\)")


def test_tokens_that_only_the_tokenizers_config_adds_count_too(folder: Path) -> None:
    added = {"9": {"content": "<|end_of_turn|>", "special": False}}
    (folder / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": added}), encoding="utf-8")
    refused(folder, r"<\|end_of_turn\|> \(9\)")


def test_an_adapters_folder_is_checked_in_the_same_way(tmp_path: Path) -> None:
    def fails(match: str) -> None:
        with pytest.raises(ModelError, match=match) as caught:
            check_adapter_files(tmp_path)
        assert caught.value.remedy

    fails("no adapter_config.json")
    (tmp_path / "adapter_config.json").write_text('{"r": 8}', encoding="utf-8")
    fails("no adapter_model.safetensors")
    (tmp_path / "adapter_model.safetensors").write_text(POINTERS["lfs"], encoding="utf-8")
    fails("adapter_model.safetensors is a pointer")
    write_safetensors(tmp_path / "adapter_model.safetensors", {"a": (2, 2)})
    check_adapter_files(tmp_path)
    cut(tmp_path / "adapter_model.safetensors")
    fails("cut off")


def test_a_folder_without_a_tokenizer_is_named_unless_the_models_code_brings_one(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    refused(folder, "no tokenizer")
    config = {"auto_map": {"AutoTokenizer": ["tokenization_x.X", None]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    check_model(ModelSource(path=str(folder), trust_remote_code=True))


def test_the_tokens_of_a_template_that_a_recipe_names_must_have_embeddings(folder: Path) -> None:
    write_tokenizer(folder, {**VOCABULARY, "c": 3}, special=["<|im_end|>"])
    check_model(ModelSource(path=str(folder)))
    check_tokens(folder, ["<|im_start|>", "c"])
    with pytest.raises(ModelError, match=r"beyond the model's 4 embeddings: <\|im_end\|> \(4\)"):
        check_tokens(folder, ["<|im_start|>", "<|im_end|>"])
