"""LLaMA-Factory's descriptions of data sets become sources, or one clear error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.collect.config import DatasetInfoSource, FileSource, HubSource
from tasks.collect.dataset_info import resolve
from tasks.collect.forms import Conversation, convert
from tasks.core.config import ChatTask
from tasks.core.errors import SourceError


def source(folder: Path, entry: Any, **stated: Any) -> DatasetInfoSource:
    file = folder / "dataset_info.json"
    file.write_text(json.dumps({"mine": entry, "other": {"file_name": "o.json"}}), encoding="utf-8")
    return DatasetInfoSource.model_validate({"dataset_info": str(file), "dataset": "mine", **stated})


def read(folder: Path, entry: dict[str, Any], row: dict[str, Any]) -> Conversation:
    return convert(row, resolve(source(folder, {"file_name": "a.json", **entry})), {}, ChatTask())


def test_an_entry_becomes_a_file_beside_it(tmp_path: Path) -> None:
    found = resolve(source(tmp_path, {"file_name": "data/a.json"}, licence="MIT", id_column="id"))
    assert isinstance(found, FileSource)
    assert found.path == str(tmp_path / "data" / "a.json")
    assert (found.form, found.licence, found.id_column) == ("alpaca", "MIT", "id")


def test_what_the_recipe_states_comes_first(tmp_path: Path) -> None:
    found = resolve(source(tmp_path, {"file_name": "a.json"}, name="talks", form="text", layout={"text": "body"}))
    assert (found.name, found.form, found.layout.text) == ("talks", "text", "body")


def test_alpacas_columns_are_read_and_those_not_named_are_not(tmp_path: Path) -> None:
    row = {"q": "a", "input": "unread", "system": "unread", "r": "b", "h": [["x", "y"]]}
    columns = {"prompt": "q", "response": "r", "history": "h"}
    found = read(tmp_path, {"columns": columns}, row)
    assert [message["content"] for message in found.messages] == ["x", "y", "a", "b"]


def test_an_entry_without_columns_has_alpacas(tmp_path: Path) -> None:
    row = {"instruction": "a", "input": "b", "output": "c", "system": "LLaMA-Factory would not read this"}
    assert [message["content"] for message in read(tmp_path, {}, row).messages] == ["a\nb", "c"]


def test_sharegpts_tags_are_read(tmp_path: Path) -> None:
    entry = {
        "formatting": "sharegpt",
        "columns": {"messages": "talk", "tools": "functions", "system": "rules"},
        "tags": {
            "role_tag": "who", "content_tag": "said", "user_tag": "Customer", "assistant_tag": "Agent",
            "observation_tag": "result", "function_tag": "call", "system_tag": "rule",
        },
    }  # fmt: skip
    row = {
        "talk": [
            {"who": "Customer", "said": "a"},
            {"who": "call", "said": '{"name": "f", "arguments": {}}'},
            {"who": "result", "said": "r"},
            {"who": "Agent", "said": "b"},
        ],
        "functions": '[{"name": "f"}]',
        "rules": "s",
    }
    found = read(tmp_path, entry, row)
    assert [message["role"] for message in found.messages] == ["system", "user", "assistant", "tool", "assistant"]
    assert found.messages[2]["tool_calls"][0]["name"] == "f" and found.tools


def test_openais_words_are_read_as_llama_factorys_own_example_has_them(tmp_path: Path) -> None:
    entry = {
        "formatting": "sharegpt",
        "columns": {"messages": "messages"},
        "tags": {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"},
    }
    row = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    for formatting in ("sharegpt", "openai"):
        assert read(tmp_path, {**entry, "formatting": formatting}, row).messages == row["messages"]


def test_a_data_set_to_pre_train_on_is_plain_text(tmp_path: Path) -> None:
    found = read(tmp_path, {"columns": {"prompt": "body"}}, {"body": "A story."})
    assert found == Conversation([], None, {"text": "A story."})


def test_a_hubs_data_set_is_named_with_its_subset_and_split(tmp_path: Path) -> None:
    entry = {"hf_hub_url": "org/data", "ms_hub_url": "x/y", "subset": "en", "split": "test", "formatting": "sharegpt"}
    found = resolve(source(tmp_path, entry))
    assert isinstance(found, HubSource)
    assert (found.hub, found.subset, found.split, found.form) == ("org/data", "en", "test", "sharegpt")


@pytest.mark.parametrize("name", ["../a.json", "/etc/passwd", "data/../../a.json", "link/a.json"])
def test_a_file_name_cannot_climb_out_of_its_folder(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "data sets"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path)
    with pytest.raises(SourceError, match="is outside the folder"):
        resolve(source(folder, {"file_name": name}))


@pytest.mark.parametrize(
    ("entry", "what"),
    [
        ({"script_url": "s"}, "script_url"),
        ({"ms_hub_url": "s"}, "ms_hub_url"),
        ({"cloud_file_name": "s3://b/a.json"}, "cloud_file_name"),
        ({"hf_hub_url": "org/data", "folder": "a"}, "Folders of a hub data set"),
        ({}, "names no file_name"),
        ({"file_name": 5}, "names no file_name"),
        ({"file_name": "a\0b"}, "is not a path"),
        ({"hf_hub_url": 5}, "is not valid"),
        ({"file_name": "a", "ranking": True}, "holds preferences"),
        ({"file_name": "a", "columns": {"prompt": "p", "kto_tag": "k"}}, "holds preferences"),
        ({"file_name": "a", "columns": {"messages": "m", "images": "i"}, "formatting": "sharegpt"}, "holds images"),
        ({"file_name": "a", "formatting": "chatml"}, "formatting 'chatml'"),
        ({"file_name": "a", "columns": ["a"]}, "columns is not a mapping"),
        ({"file_name": "a", "tags": {"role_tag": 1}}, "tags is not a mapping"),
        ({"file_name": "a", "columns": {"prompt": "p", "query": "q"}}, "has no answers"),
        ("text", "does not describe the data set 'mine'"),
    ],
)
def test_what_cannot_be_read_is_one_clear_error(tmp_path: Path, entry: Any, what: str) -> None:
    with pytest.raises(SourceError) as caught:
        resolve(source(tmp_path, entry))
    assert what in caught.value.what and "dataset_info.json" in caught.value.where


def test_a_wrong_name_is_answered_with_the_nearest(tmp_path: Path) -> None:
    wrong = source(tmp_path, {"file_name": "a.json"}).model_copy(update={"dataset": "mime"})
    with pytest.raises(SourceError, match="did you mean 'mine'"):
        resolve(wrong)


@pytest.mark.parametrize("text", [None, "{", "[]", "[" * 100_000])
def test_a_missing_or_broken_file_is_one_clear_error(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "dataset_info.json"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    with pytest.raises(SourceError) as caught:
        resolve(DatasetInfoSource(dataset_info=str(file), dataset="mine"))
    assert str(file) in caught.value.where


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)
KEYS = [
    "file_name", "hf_hub_url", "subset", "split", "folder", "formatting", "ranking", "columns", "tags",
]  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(KEYS), ANY | st.just("a") | st.just({"prompt": "p"}), max_size=5))
def test_any_entry_is_a_source_or_a_source_error(tmp_path: Path, entry: dict[str, Any]) -> None:
    try:
        found = resolve(source(tmp_path, entry))
    except SourceError:
        return
    assert isinstance(found, FileSource | HubSource) and found.form in ("alpaca", "sharegpt", "openai", "text")
