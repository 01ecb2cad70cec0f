from __future__ import annotations

from pathlib import Path

from tasks.train.checkpoints import damage, newest_intact, seal, step_of


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
    said: list[str] = []
    assert newest_intact(tmp_path, said.append) == old
    assert said == ["the checkpoint of step 20 is damaged: adapter_model.safetensors has changed; it is not used"]
    assert not new.exists()


def test_older_ones_whose_pruning_was_cut_short_go_too(tmp_path: Path) -> None:
    """Their time of change is new: left there, they would be kept, and a good one pruned in their stead."""
    weightless, unsealed, old, new = (checkpoint(tmp_path, step) for step in (5, 10, 20, 30))
    (weightless / "adapter_model.safetensors").unlink()
    (unsealed / "checkpoint.json").unlink()
    said: list[str] = []
    assert newest_intact(tmp_path, said.append) == new
    assert {*tmp_path.iterdir()} == {old, new} and said == []


def test_a_truncated_file_is_noticed(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, 10) / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    assert damage(path.parent) == "is damaged: adapter_model.safetensors has changed"


def test_a_checkpoint_killed_before_its_manifest_is_not_trusted(tmp_path: Path) -> None:
    assert damage(checkpoint(tmp_path, 10, sealed=False)) == "was not finished"
    assert newest_intact(tmp_path) is None


def test_a_missing_or_added_file_breaks_a_checkpoint(tmp_path: Path) -> None:
    lacking, added, torn = checkpoint(tmp_path, 1), checkpoint(tmp_path, 2), checkpoint(tmp_path, 3)
    (lacking / "trainer_state.json").unlink()
    (added / "extra.bin").write_bytes(b"x")
    (torn / "checkpoint.json").write_text('{"files": ')
    assert [damage(path) for path in (lacking, added, torn)] == [
        "is damaged: trainer_state.json is missing",
        "is damaged: extra.bin does not belong to it",
        "has a damaged checkpoint.json",
    ]


def test_no_folder_means_no_checkpoint(tmp_path: Path) -> None:
    assert newest_intact(tmp_path / "absent") is None
