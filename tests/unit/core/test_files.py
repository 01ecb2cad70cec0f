"""Atomic writes, digests, and room on the disk."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.errors import MachineError, NotFinite
from tasks.core.files import (
    canonical_json,
    digest_of,
    folder_digests,
    readable_as_umask_allows,
    require_free_space,
    write_json,
    write_text,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=8,
)


def test_a_file_is_written_whole_into_folders_that_did_not_exist(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.txt"
    write_text(path, "zürich\n")
    assert path.read_bytes() == "zürich\n".encode()
    assert [file.name for file in path.parent.iterdir()] == ["b.txt"]


def test_a_write_that_fails_leaves_the_old_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def no_room(descriptor: int) -> None:
        raise OSError("no room")

    monkeypatch.setattr(os, "fsync", no_room)
    with pytest.raises(OSError, match="no room"):
        write_text(path, "new")
    assert path.read_text(encoding="utf-8") == "old"


def test_json_is_readable_text_and_comes_back_equal(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"name": "Zürich", "path": Path("x")})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert "Zürich" in text and text.endswith("}\n")
    assert json.loads(text) == {"name": "Zürich", "path": "x"}


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_figure_that_json_has_no_form_for_is_named_and_not_written(tmp_path: Path, number: float) -> None:
    with pytest.raises(NotFinite, match=rf"probes\.1\.loss is {number}") as caught:
        write_json(tmp_path / "a.json", {"ok": 0.5, "probes": [{"loss": 1.0}, {"loss": number}]})
    assert caught.value.where == str(tmp_path / "a.json") and not list(tmp_path.iterdir())


@given(JSON)
def test_equal_values_have_equal_canonical_json_that_parses_back(value: object) -> None:
    text = canonical_json(value)
    assert json.loads(text) == value
    assert canonical_json(json.loads(text)) == text


def test_the_order_of_keys_does_not_matter_and_the_order_of_items_does() -> None:
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})
    assert digest_of([1, 2]) != digest_of([2, 1])
    assert digest_of("1") != digest_of(1)


def test_a_folder_is_digested_by_relative_path_and_content(tmp_path: Path) -> None:
    write_text(tmp_path / "one" / "x" / "a.txt", "a")
    write_text(tmp_path / "one" / "skipped.txt", "s")
    write_text(tmp_path / "two" / "x" / "a.txt", "a")
    digests = folder_digests(tmp_path / "one", skip=["skipped.txt"])
    assert list(digests) == ["x/a.txt"]
    assert digests == folder_digests(tmp_path / "two")


def test_too_little_disk_space_is_reported_with_numbers_and_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10 * 2**20))
    require_free_space(tmp_path, 10 * 2**20, "nothing much")
    with pytest.raises(MachineError, match="for the model: 2,048 MiB needed, 10 MiB free") as caught:
        require_free_space(tmp_path / "not" / "yet", 2 * 2**30, "the model")
    assert caught.value.where == str(tmp_path) and "RETUNE_HOME" in caught.value.remedy


@pytest.mark.parametrize(("umask", "file_mode", "folder_mode"), [(0o022, 0o644, 0o755), (0o027, 0o640, 0o750)])
def test_files_that_a_library_kept_for_their_owner_get_the_modes_of_the_umask(
    tmp_path: Path, umask: int, file_mode: int, folder_mode: int
) -> None:
    file = tmp_path / "merged" / "model.safetensors"
    file.parent.mkdir(mode=0o700)
    file.touch(mode=0o600)
    (tmp_path / "tool").touch(mode=0o700)
    before = os.umask(umask)
    try:
        readable_as_umask_allows(tmp_path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == file_mode
    assert stat.S_IMODE(file.parent.stat().st_mode) == folder_mode
    assert stat.S_IMODE((tmp_path / "tool").stat().st_mode) == file_mode | 0o700
    assert sorted(path.name for path in tmp_path.iterdir()) == ["merged", "tool"]
