"""Packed rows never see each other, lose no token, and are learned from as rows by themselves are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasks.core.artifacts import ArtifactRef
from tasks.core.errors import TrainingError
from tasks.train.masking import IGNORED, masking_proof
from tests.unit.train.trial import Trial, new_trial

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trials(tiny_model: Path, training_set: ArtifactRef, tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Trial]:
    """The same rows apart and packed, all of them in one step."""
    folder = tmp_path_factory.mktemp("packing")
    return {
        packing: new_trial(tiny_model, training_set, folder / str(packing), packing=packing, max_steps=1, batch_size=64)
        for packing in (False, True)
    }


PAD = 0


def batch_of(trial: Trial) -> dict[str, Any]:
    rows = trial.trainer.train_dataset
    batch: dict[str, Any] = trial.trainer.data_collator([rows[position] for position in range(len(rows))])
    return batch


def rows_of(batch: dict[str, Any]) -> list[tuple[int, int, int]]:
    """Sequence, beginning and end of each packed row, padding left out."""
    found = []
    for sequence, positions in enumerate(batch["position_ids"].tolist()):
        starts = [index for index, position in enumerate(positions) if position == 0]
        ends = [*starts[1:], len(positions)]
        while batch["input_ids"][sequence, ends[-1] - 1] == PAD and batch["labels"][sequence, ends[-1] - 1] == IGNORED:
            ends[-1] -= 1
        found += [(sequence, start, end) for start, end in zip(starts, ends, strict=True)]
    return found


def logits(trial: Trial, **inputs: Any) -> Any:
    import torch

    with torch.no_grad():
        return trial.model.get_base_model().eval()(**inputs).logits


def test_packing_keeps_every_row_and_every_token(trials: dict[bool, Trial]) -> None:
    batch = batch_of(trials[True])
    spans = rows_of(batch)
    assert len(spans) == len(trials[True].rows) == 30
    assert len(trials[True].trainer.train_dataset) < 30
    packed = sorted(tuple(batch["input_ids"][sequence, start:end].tolist()) for sequence, start, end in spans)
    assert packed == sorted(tuple(row["input_ids"]) for row in trials[False].rows)


def test_a_packed_row_has_the_logits_of_the_row_alone(trials: dict[bool, Trial]) -> None:
    import torch

    trial = trials[True]
    batch = batch_of(trial)
    packed = logits(trial, input_ids=batch["input_ids"], position_ids=batch["position_ids"])
    for sequence, start, end in rows_of(batch)[::4]:
        alone = logits(trial, input_ids=batch["input_ids"][sequence : sequence + 1, start:end])
        torch.testing.assert_close(packed[sequence, start:end], alone[0], atol=1e-4, rtol=1e-4)


def test_a_change_in_one_row_changes_no_other(trials: dict[bool, Trial]) -> None:
    trial = trials[True]
    batch = batch_of(trial)
    first, second = rows_of(batch)[:2]
    before = logits(trial, input_ids=batch["input_ids"], position_ids=batch["position_ids"])
    changed = batch["input_ids"].clone()
    changed[0, first[1] : first[2]] = 40
    after = logits(trial, input_ids=changed, position_ids=batch["position_ids"])
    assert not after[0, first[1] : first[2]].equal(before[0, first[1] : first[2]])
    assert (after[0, second[1] :] - before[0, second[1] :]).abs().max() < 1e-5
    assert (after[1:] - before[1:]).abs().max() < 1e-5


def test_a_step_over_the_same_tokens_has_the_same_loss_and_gradient(trials: dict[bool, Trial]) -> None:
    found = {packing: (trial.run()[0], trial.logged("grad_norm")[0]) for packing, trial in trials.items()}
    assert found[True] == pytest.approx(found[False], rel=1e-4)


def test_packed_sequences_are_the_rows_of_a_batch_with_little_padding(trials: dict[bool, Trial]) -> None:
    trial = trials[True]
    batch = batch_of(trial)
    assert batch["input_ids"].shape[0] == len(trial.trainer.train_dataset) > 1
    assert batch["input_ids"].shape == batch["labels"].shape == batch["position_ids"].shape
    tokens = sum(len(row["input_ids"]) for row in trial.rows)
    before = trial.trainer.data_collator.padding
    batch_of(trial)
    assert batch["input_ids"].numel() - (trial.trainer.data_collator.padding - before) == tokens


def test_the_proof_stops_a_packing_that_lost_where_rows_begin(
    trials: dict[bool, Trial], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trials[True].trainer
    collate = trainer.data_collator

    def joined(rows: Any) -> Any:
        batch = collate(rows)
        batch["position_ids"][:, 1:] = 1
        return batch

    monkeypatch.setattr(trainer, "data_collator", joined)
    with pytest.raises(TrainingError, match=r"Packing made \d+ rows of"):
        masking_proof(trainer, trials[True].rows, trials[True].loaded.tokenizer)


def test_packed_rows_can_be_trained_on_as_a_whole(tiny_model: Path, training_set: ArtifactRef, tmp_path: Path) -> None:
    trial = new_trial(tiny_model, training_set, tmp_path, packing=True, train_on="everything", max_steps=1)
    proof = masking_proof(trial.trainer, trial.rows, trial.loaded.tokenizer, "everything")
    assert proof["trained_token_share"] == 1
