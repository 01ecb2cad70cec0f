"""The artifact store: named by what determines it, all or nothing, and never trusted unread."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from tasks.core import artifacts
from tasks.core.artifacts import MANIFEST, ArtifactRef, ArtifactStore, StageKey, Summary
from tasks.core.config import ChatTask
from tasks.core.errors import MachineError

REF = ArtifactRef("collect", "k", "/somewhere", "digest", 3)
KEY = StageKey("generate", 1, {"seed": 1, "task": ChatTask()}, [REF], {"model": "abc"}, ["pyarrow"])


def fill(folder: Path) -> Summary:
    (folder / "deep").mkdir()
    (folder / "deep" / "rows.txt").write_text("rows", encoding="utf-8")
    (folder / "report").mkdir()
    (folder / "report" / "page.md").write_text("for people", encoding="utf-8")
    return Summary(rows_in=4, accepted=2, quarantined=1, duplicates=1, details={"note": "fine"})


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts")


@pytest.mark.parametrize(
    "change",
    [
        {"stage": "collect"},
        {"version": 2},
        {"config": {"seed": 2, "task": ChatTask()}},
        {"config": {"seed": 1, "task": ChatTask(system="be kind")}},
        {"inputs": [dataclasses.replace(REF, digest="other")]},
        {"inputs": []},
        {"files": {"model": "abd"}},
        {"files": {"base": "abc"}},
        {"libraries": ["pyarrow", "jinja2"]},
    ],
    ids=str,
)
def test_the_key_changes_with_each_determinant(change: dict[str, Any]) -> None:
    assert dataclasses.replace(KEY, **change).hex != KEY.hex


def test_the_key_changes_with_a_librarys_version(monkeypatch: pytest.MonkeyPatch) -> None:
    before = KEY.hex
    monkeypatch.setattr(artifacts, "_version", lambda name: "0.0.0")
    assert KEY.hex != before


def test_the_key_does_not_change_with_the_place_of_an_input_or_the_order_of_names() -> None:
    moved = dataclasses.replace(REF, path="/elsewhere", key="j", rows=9)
    config = {"task": ChatTask(), "seed": 1}
    assert dataclasses.replace(KEY, inputs=[moved], config=config).hex == KEY.hex
    assert len(KEY.hex) == 32 and int(KEY.hex, 16) > 0


def test_what_was_written_is_found_again_with_its_digest_and_rows(store: ArtifactStore) -> None:
    assert store.find(KEY) is None
    written = store.write(KEY, fill)
    assert store.find(KEY) == written
    assert written.rows == 2 and written.folder.name == KEY.hex
    manifest = written.manifest()
    assert set(manifest["files"]) == {"deep/rows.txt", "report/page.md"}
    assert manifest["summary"]["details"] == {"note": "fine"}
    assert manifest["determinants"]["files"] == {"model": "abc"}
    assert manifest["inputs"] == [dataclasses.asdict(REF)]


@pytest.mark.parametrize("name", ["deep/rows.txt", "report/page.md"])
def test_a_flipped_byte_is_not_accepted(store: ArtifactStore, name: str) -> None:
    path = store.write(KEY, fill).folder / name
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)
    assert store.find(KEY) is None


def test_a_missing_and_an_extra_file_are_not_accepted(store: ArtifactStore) -> None:
    folder = store.write(KEY, fill).folder
    (folder / "extra.txt").write_text("", encoding="utf-8")
    assert store.find(KEY) is None
    (folder / "extra.txt").unlink()
    assert store.find(KEY) is not None
    (folder / "report" / "page.md").unlink()
    assert store.find(KEY) is None


@pytest.mark.parametrize("damage", ["", "{", "[]", "{}", '{"files": {}}'])
def test_a_damaged_manifest_is_not_accepted_and_stops_nothing(store: ArtifactStore, damage: str) -> None:
    folder = store.write(KEY, fill).folder
    (folder / MANIFEST).write_text(damage, encoding="utf-8")
    assert store.find(KEY) is None
    assert store.write(KEY, fill) == store.find(KEY)


def test_a_manifest_whose_digest_was_changed_is_not_accepted(store: ArtifactStore) -> None:
    folder = store.write(KEY, fill).folder
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    (folder / MANIFEST).write_text(json.dumps({**manifest, "digest": "0" * 64}), encoding="utf-8")
    assert store.find(KEY) is None


def test_the_report_is_not_part_of_the_digest_and_the_data_is(store: ArtifactStore) -> None:
    def other_report(folder: Path) -> Summary:
        summary = fill(folder)
        (folder / "report" / "page.md").write_text("other words", encoding="utf-8")
        return summary

    def other_data(folder: Path) -> Summary:
        summary = fill(folder)
        (folder / "deep" / "rows.txt").write_text("other rows", encoding="utf-8")
        return summary

    digests = [store.write(KEY, how).digest for how in (fill, other_report, other_data)]
    assert digests[0] == digests[1] != digests[2]


def test_a_failing_stage_leaves_nothing_and_the_artifact_before_it_stays(store: ArtifactStore) -> None:
    def failing(folder: Path) -> Summary:
        fill(folder)
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        store.write(KEY, failing)
    assert not [path for path in store.root.rglob("*") if path.is_file()]
    before = store.write(KEY, fill)
    with pytest.raises(OSError, match="no room"):
        store.write(KEY, failing)
    assert store.find(KEY) == before


def test_until_all_of_it_is_written_there_is_no_artifact(store: ArtifactStore) -> None:
    def look(folder: Path) -> Summary:
        assert store.find(KEY) is None and not (store.root / "generate" / KEY.hex).exists()
        return fill(folder)

    store.write(KEY, look)
    (store.root / "generate" / KEY.hex / MANIFEST).unlink()
    assert store.find(KEY) is None


def test_left_overs_of_a_killed_run_are_removed(store: ArtifactStore) -> None:
    left_over = store.root / "generate" / f".{KEY.hex}.1.tmp"
    left_over.mkdir(parents=True)
    ref = store.write(KEY, fill)
    assert [path.name for path in (store.root / "generate").iterdir()] == [ref.key]


def test_counts_that_do_not_balance_are_no_artifact(store: ArtifactStore) -> None:
    with pytest.raises(AssertionError, match="generate: row counts do not balance"):
        store.write(KEY, lambda folder: Summary(rows_in=3, accepted=1, quarantined=1))
    assert store.find(KEY) is None


@given(st.tuples(*[st.integers(0, 50)] * 3), st.integers(-2, 2))
def test_the_balance_is_exact(parts: tuple[int, int, int], lost: int) -> None:
    summary = Summary(sum(parts) + lost, *parts)
    if lost:
        with pytest.raises(AssertionError):
            summary.check_balance("x")
    else:
        summary.check_balance("x")


def test_a_full_disk_stops_the_stage_before_it_starts(store: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "FREE_SPACE", 2**80)
    with pytest.raises(MachineError, match="the generate stage"):
        store.write(KEY, fill)
    assert not store.root.exists()


def test_an_artifact_that_a_limit_cut_short_is_used_now_and_not_found_again(store: ArtifactStore) -> None:
    def cut_short(folder: Path) -> Summary:
        return dataclasses.replace(fill(folder), partial=True)

    ref = store.write(KEY, cut_short)
    assert ref.rows == 2 and ref.manifest()["summary"]["partial"] is True
    assert store.find(KEY) is None
    whole = store.write(KEY, fill)
    assert store.find(KEY) == whole


def test_an_artifacts_files_can_be_read_by_others_as_the_umask_says(store: ArtifactStore) -> None:
    """safetensors writes weights that only their owner can read: another user could not serve a release."""

    def fill(folder: Path) -> Summary:
        (folder / "merged").mkdir()
        save_file({"weight": np.zeros(3)}, folder / "merged" / "model.safetensors")
        (folder / "merged" / "config.json").touch(mode=0o600)
        return Summary()

    ref = store.write(KEY, fill)
    plain = store.root / "plain"
    plain.touch()
    modes = {path.name: path.stat().st_mode for path in ref.folder.rglob("*") if path.is_file()}
    assert set(modes) == {"model.safetensors", "config.json", "manifest.json"}
    assert set(modes.values()) == {plain.stat().st_mode}
