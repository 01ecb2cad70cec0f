from __future__ import annotations

from pathlib import Path

from tasks.train.checkpoints import is_intact, newest_intact, seal, step_of


def checkpoint(folder: Path, step: int, sealed: bool = True) -> Path:
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "adapter_model.safetensors").write_bytes(bytes(range(200)) * step)
    (path / "trainer_state.json").write_text("{}")
    if sealed:
        seal(path)
    return path


def test_the_newest_by_number_is_found(tmp_path: Path) -> None:
    for step in (9, 100, 20):
        checkpoint(tmp_path, step)
    found = newest_intact(tmp_path)
    assert found is not None
    assert step_of(found) == 100


def test_a_flipped_bit_is_noticed_and_the_older_checkpoint_used(tmp_path: Path) -> None:
    old, new = checkpoint(tmp_path, 10), checkpoint(tmp_path, 20)
    weights = new / "adapter_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[7] ^= 1
    weights.write_bytes(data)
    assert newest_intact(tmp_path) == old
    assert not new.exists()


def test_a_checkpoint_killed_before_its_manifest_is_not_trusted(tmp_path: Path) -> None:
    assert not is_intact(checkpoint(tmp_path, 10, sealed=False))
    assert newest_intact(tmp_path) is None


def test_a_missing_or_added_file_breaks_a_checkpoint(tmp_path: Path) -> None:
    lacking, added, torn = checkpoint(tmp_path, 1), checkpoint(tmp_path, 2), checkpoint(tmp_path, 3)
    (lacking / "trainer_state.json").unlink()
    (added / "extra.bin").write_bytes(b"x")
    (torn / "checkpoint.json").write_text('{"files": ')
    assert [is_intact(path) for path in (lacking, added, torn)] == [False, False, False]


def test_no_folder_means_no_checkpoint(tmp_path: Path) -> None:
    assert newest_intact(tmp_path / "absent") is None
