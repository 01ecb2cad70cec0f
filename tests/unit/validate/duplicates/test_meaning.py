"""Duplicates by meaning: the seedling's embeddings, the greedy choice, and how it joins what was found before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tasks.core.config import ModelSource
from tasks.core.errors import ContractViolation, ModelError
from tasks.core.home import PROJECT_ROOT
from tasks.validate.config import NearDuplicates, SameMeaning
from tasks.validate.duplicates import meaning, meaning_worker
from tasks.validate.duplicates.duplicates import Duplicates, find_duplicates
from tasks.validate.duplicates.meaning import add_same_meaning, embed, representatives
from tasks.validate.duplicates.meaning_worker import BATCH_TOKENS, batches
from tasks.validate.similarity import Positions, Texts, as_array
from tests.hub_cache import UNPINNED, in_hub_cache

SEEDLING = ModelSource(path=str(PROJECT_ROOT / "seedling" / "model"))
SAME = SameMeaning(model=SEEDLING, threshold=0.95)
NONE = find_duplicates([], NearDuplicates())


def listed(found: Duplicates) -> list[tuple[int, int, str]]:
    return list(zip(found.position.tolist(), found.original.tolist(), found.kind.tolist(), strict=True))


def unit(*degrees: float) -> NDArray[np.float32]:
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], NDArray[np.float32]]:
    """Some texts and their embeddings by the seedling, from a real child process."""
    texts = ["how do i make pasta", "when is payday", "", "how do I cook pasta", "what is my balance " * 400]
    folder = tmp_path_factory.mktemp("meaning")
    found = embed(as_array(texts), SEEDLING, folder, folder / "log")
    assert {path.name for path in folder.iterdir()} == {"job.json", "result.json", "log"}
    return texts, found


@pytest.mark.slow
def test_embeddings_are_of_length_one_and_of_an_empty_text_nothing(
    embedded: tuple[list[str], NDArray[np.float32]],
) -> None:
    texts, found = embedded
    assert found.shape == (len(texts), 192) and found.dtype == np.float32
    assert np.linalg.norm(found, axis=1) == pytest.approx([1, 1, 0, 1, 1], abs=1e-5)


@pytest.mark.slow
def test_what_means_the_same_is_nearer_than_what_does_not(embedded: tuple[list[str], NDArray[np.float32]]) -> None:
    cosine = embedded[1] @ embedded[1].T
    assert cosine[0, 3] > 0.95 and cosine[0, 1] < 0.6 and cosine[1, 3] < 0.6


@pytest.mark.slow
def test_an_embedding_is_the_mean_of_the_last_hidden_states(embedded: tuple[list[str], NDArray[np.float32]]) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(SEEDLING.path), AutoModel.from_pretrained(SEEDLING.path).float()
    with torch.inference_mode():
        states = model(**tokenizer(embedded[0][1], return_tensors="pt")).last_hidden_state[0]
    mean = states.mean(0).numpy()
    assert embedded[1][1] == pytest.approx(mean / np.linalg.norm(mean), abs=1e-4)


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    missing = ModelSource(path=str(tmp_path / "no-model"))
    with pytest.raises(ModelError, match="does not exist"):
        add_same_meaning(["a"], NONE, SameMeaning(model=missing), tmp_path, tmp_path / "log")


def test_a_model_with_code_of_another_repository_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="another repository"):
        meaning_worker._load(in_hub_cache(tmp_path, monkeypatch, UNPINNED, trust_remote_code=True))


def planted(monkeypatch: pytest.MonkeyPatch, of: dict[str, float]) -> None:
    """Embeddings by their angle in degrees."""

    def plant(texts: Texts, *_: object) -> NDArray[np.float32]:
        return unit(*(of[text] for text in as_array(texts).to_pylist()))

    monkeypatch.setattr(meaning, "embed", plant)


def test_rows_found_before_follow_the_row_that_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    planted(monkeypatch, {"make pasta": 0, "payday": 90, "cook pasta": 5})
    texts = ["make pasta", "payday", "Payday!", "cook pasta", "COOK pasta", "Make pasta"]
    found = find_duplicates(texts, NearDuplicates())
    assert listed(found) == [(2, 1, "exact"), (4, 3, "exact"), (5, 0, "exact")]
    both = add_same_meaning(texts, found, SAME, tmp_path, tmp_path / "log")
    assert listed(both) == [(2, 1, "exact"), (3, 0, "meaning"), (4, 0, "meaning"), (5, 0, "exact")]


def test_other_signs_and_other_system_turns_never_mean_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    planted(monkeypatch, dict.fromkeys(["what is -5 doubled", "what is 5 doubled", "double 5", "the double of 5"], 0.0))
    texts = ["what is -5 doubled", "what is 5 doubled", "double 5", "the double of 5"]
    contexts = pa.array(["", "", "", "in French"])
    both = add_same_meaning(texts, NONE, SAME, tmp_path, tmp_path / "log", contexts)
    assert listed(both) == [(2, 1, "meaning")]


def test_where_nothing_is_left_to_compare_nothing_is_started(tmp_path: Path) -> None:
    assert listed(add_same_meaning([], NONE, SAME, tmp_path, tmp_path / "log")) == []
    assert list(tmp_path.iterdir()) == []


def test_too_many_rows_are_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(meaning, "MOST_TEXTS", 2)
    with pytest.raises(ContractViolation, match="3 rows are too many to compare by meaning"):
        add_same_meaning(["a", "b", "c"], NONE, SAME, tmp_path, tmp_path / "log")


def selected(embeddings: NDArray[np.float32], threshold: float) -> Positions:
    return representatives(embeddings, np.zeros(len(embeddings), dtype=np.int64), threshold)


def test_a_text_is_compared_with_those_alone_that_stay() -> None:
    assert selected(unit(0, 15, 30, 45), np.cos(np.radians(20))).tolist() == [0, 0, 2, 2]
    assert selected(unit(0, 30, 16), np.cos(np.radians(20))).tolist() == [0, 1, 1], "of two the more similar"
    assert selected(unit(50, 50, 50), 1.0).tolist() == [0, 0, 0], "rounding does not part equal texts"
    assert selected(np.zeros((3, 2), dtype=np.float32), 0.5).tolist() == [0, 1, 2]


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 40), st.sampled_from([0.3, 0.7, 0.9]), st.sampled_from([1, 3, 7, 64]))
def test_the_choice_is_the_greedy_one_whatever_the_blocks(seed: int, count: int, threshold: float, block: int) -> None:
    vectors = np.random.default_rng(seed).standard_normal((count, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    groups = np.random.default_rng(seed).integers(0, 2, count)
    expected: list[int] = []
    for own in range(count):
        kept = [other for other in range(own) if expected[other] == other and groups[other] == groups[own]]
        score, original = max(((float(vectors[own] @ vectors[other]), other) for other in kept), default=(-1.0, own))
        expected.append(original if score >= threshold else own)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(meaning, "BLOCK", block)
        assert representatives(vectors.copy(), groups, threshold).tolist() == expected


@given(st.lists(st.integers(0, 3_000), max_size=60))
def test_batches_hold_every_text_with_tokens_once_and_are_bounded(lengths: list[int]) -> None:
    made = [batch.tolist() for batch in batches(lengths)]
    assert sorted(number for batch in made for number in batch) == [n for n, length in enumerate(lengths) if length]
    assert all(len(batch) * max(lengths[number] for number in batch) <= BATCH_TOKENS for batch in made)
