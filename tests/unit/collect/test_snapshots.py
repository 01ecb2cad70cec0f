"""Snapshots: whole or as before, whatever happens in the middle."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from tasks.collect.sources import snapshots
from tasks.collect.sources.snapshots import Part, Snapshot, State
from tasks.core.errors import MachineError, SourceError, SourceUnavailable


def snapshot(root: Path) -> Snapshot:
    return Snapshot(root, "sql", {"sql": "sqlite:///x.db"}, "x.db")


def keep(one: Snapshot, label: str, content: bytes) -> Part:
    file = one.new_file()
    file.write_bytes(content)
    return one.keep(file, label, ".jsonl")


def fill(root: Path, *contents: bytes, origin: str = "here") -> Snapshot:
    one = snapshot(root)
    with one.update(origin):
        one.commit(
            State(origin, tuple(keep(one, f"part-{n}", content) for n, content in enumerate(contents)), {"n": 1})
        )
    return one


def contents(one: Snapshot) -> list[bytes]:
    return [one.path(part).read_bytes() for part in one.current().parts]


def test_what_was_committed_is_there_for_the_next_reader(tmp_path: Path) -> None:
    fill(tmp_path, b"a", b"b")
    again = snapshot(tmp_path)
    with again.update("here") as former:
        assert former == again.current()
    assert contents(again) == [b"a", b"b"] and again.current().details == {"n": 1}


def test_before_the_first_fetch_there_is_nothing(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="not been fetched"):
        snapshot(tmp_path).current()
    with snapshot(tmp_path).update("here") as former:
        assert former is None


def test_a_fetch_that_fails_leaves_the_former_snapshot_whole(tmp_path: Path) -> None:
    one = fill(tmp_path, b"a")
    with pytest.raises(RuntimeError), one.update("here"):
        keep(one, "new", b"new")
        one.new_file().write_bytes(b"half")
        raise RuntimeError
    assert contents(snapshot(tmp_path)) == [b"a"]
    with one.update("here") as former:
        assert former is not None
    assert sorted(path.suffix for path in one.folder.iterdir() if path.name != "lock") == [".json", ".jsonl"]


def test_a_fetch_that_is_killed_leaves_the_former_snapshot_whole_and_the_lock_free(tmp_path: Path) -> None:
    one = fill(tmp_path, b"a")
    context = multiprocessing.get_context("fork")
    reached = context.Event()

    def die() -> None:
        child = snapshot(tmp_path)
        with child.update("here"):
            keep(child, "new", b"new")
            reached.set()
            time.sleep(60)

    process = context.Process(target=die)
    process.start()
    assert reached.wait(10) and process.pid
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with one.update("here") as former:
        assert former is not None and contents(one) == [b"a"]
        assert len(list(one.folder.glob("*.jsonl"))) == 1


def test_a_second_process_waits_or_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = fill(tmp_path, b"a")
    monkeypatch.setattr(snapshots, "LOCK_SECONDS", 0.1)
    with (
        one.update("here"),
        pytest.raises(SourceUnavailable, match="Another process"),
        snapshot(tmp_path).update("here"),
    ):
        pass
    with snapshot(tmp_path).update("here") as former:
        assert former is not None


def test_parts_that_are_still_being_read_stay_until_the_fetch_after_the_next(tmp_path: Path) -> None:
    one = fill(tmp_path, b"old")
    reading = one.path(one.current().parts[0])
    fill(tmp_path, b"new")
    assert reading.read_bytes() == b"old"
    fill(tmp_path, b"newer")
    assert not reading.exists()


def test_the_same_bytes_are_the_same_part(tmp_path: Path) -> None:
    one = fill(tmp_path, b"same", b"same")
    first, second = one.current().parts
    assert (first.file, first.digest) == (second.file, second.digest) and first.label != second.label
    assert contents(one) == [b"same", b"same"]


@pytest.mark.parametrize("damage", ["gone", "flipped", "no state", "half a state", "another layout", "elsewhere"])
def test_a_snapshot_that_is_damaged_or_of_elsewhere_is_not_built_upon(tmp_path: Path, damage: str) -> None:
    one = fill(tmp_path, b"a", b"b")
    part, state = one.path(one.current().parts[1]), one.folder / "state.json"
    match damage:
        case "gone":
            part.unlink()
        case "flipped":
            part.write_bytes(b"c")
        case "no state":
            state.unlink()
        case "half a state":
            state.write_text(state.read_text()[:50])
        case "another layout":
            state.write_text(state.read_text().replace('"layout": 1', '"layout": 0'))
    with one.update("there" if damage == "elsewhere" else "here") as former:
        assert former is None


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    one = snapshot(tmp_path)
    with pytest.raises(MachineError, match="disk is full"), one.update("here"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(IsADirectoryError), one.update("here"):
        raise IsADirectoryError(errno.EISDIR, "another fault")


def test_each_source_has_a_folder_of_its_own_that_only_its_identity_names(tmp_path: Path) -> None:
    same = [Snapshot(tmp_path, "sql", identity, "x").folder for identity in ({"a": 1, "b": 2}, {"b": 2, "a": 1})]
    other = [Snapshot(tmp_path, "sql", {"a": 2}, "x").folder, Snapshot(tmp_path, "http", {"a": 1, "b": 2}, "x").folder]
    assert len(set(same)) == 1 and len({*same, *other}) == 3
