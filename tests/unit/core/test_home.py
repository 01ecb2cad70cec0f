"""Any path that can hold Retune's state is taken as it is, any other is refused by name before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.core.errors import MachineError
from tasks.core.home import Home


@pytest.mark.parametrize("name", ["what?", "line\nend", "tab\there", "bell\x07", "\udcff"])
def test_a_path_that_a_database_or_a_terminal_would_read_otherwise_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for path in (tmp_path / name, tmp_path / name / "below"):
        monkeypatch.setenv("RETUNE_HOME", str(path))
        with pytest.raises(MachineError, match="RETUNE_HOME") as caught:
            Home.from_environment()
        str(caught.value).encode()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name",
    ["a b", "a,b", "a:b", "it's", 'say "x"', "back\\slash", "naïve 日本", "[x]*", "a=b&c;d@e+f$g", "c#", "50%20"],
)
def test_other_paths_are_taken_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("RETUNE_HOME", f"{tmp_path / name}/")
    assert Home.from_environment().root == tmp_path / name
    assert list(tmp_path.iterdir()) == []


def test_a_relative_path_and_a_link_become_the_folder_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path)
    for path in ("real", "link", "./real/../link/"):
        monkeypatch.setenv("RETUNE_HOME", path)
        assert Home.from_environment().root == tmp_path / "real"


def test_a_file_a_circle_of_links_and_a_path_that_is_too_long_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    too_long = "/".join(["é" * 50] * 5)
    for name, problem in (
        ("file", "is a file"),
        ("file/below", "is a file"),
        ("loop", "loop"),
        (too_long, "bytes"),
        ("x" * 300, "too long"),
    ):
        monkeypatch.setenv("RETUNE_HOME", str(tmp_path / name))
        with pytest.raises(MachineError, match=problem):
            Home.from_environment()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "loop"]
