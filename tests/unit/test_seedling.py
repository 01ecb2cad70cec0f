"""The shipped seedling is the one its card and digest describe, and its limits hold."""

from __future__ import annotations

import csv
import itertools
import sys

import pytest
from safetensors import safe_open

from tasks.core.files import file_digest
from tasks.core.home import PROJECT_ROOT

SEEDLING = PROJECT_ROOT / "seedling"
MODEL = SEEDLING / "model"
MESSAGES = PROJECT_ROOT / "deployments" / "recipes" / "data" / "support_messages.csv"


def test_the_weights_have_the_committed_digest() -> None:
    digest, name = (MODEL / "DIGEST").read_text().split()
    assert file_digest(MODEL / name) == digest


def test_it_is_small() -> None:
    with safe_open(MODEL / "model.safetensors", framework="pt") as weights:
        shapes = [weights.get_slice(name).get_shape() for name in weights.keys()]  # noqa: SIM118
    parameters = sum(rows * (columns[0] if columns else 1) for rows, *columns in shapes)
    assert parameters == 3_470_016
    assert sum(path.stat().st_size for path in MODEL.iterdir()) <= 16 * 2**20


@pytest.fixture
def skills(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.syspath_prepend(str(SEEDLING))
    sys.modules.pop("skills", None)
    import skills

    return skills


def test_its_training_stream_is_seeded_and_never_names_a_queue_as_an_answer(skills: object) -> None:
    topics = {
        "report lost card": ["i lost my card", "my card is gone"],
        "bill due": ["when is it due", "due date please"],
    }
    stream = skills.conversations  # type: ignore[attr-defined]
    first = list(itertools.islice(stream(topics, 1), 300))
    assert first == list(itertools.islice(stream(topics, 1), 300))
    assert first != list(itertools.islice(stream(topics, 2), 300))
    queues = {row["queue"] for row in csv.DictReader(MESSAGES.read_text(encoding="utf-8").splitlines())}
    assert not queues & {conversation[-1]["content"] for conversation in first}


def test_the_hand_written_messages_are_enough_and_unlike_each_other() -> None:
    rows = list(csv.DictReader(MESSAGES.read_text(encoding="utf-8").splitlines()))
    assert len(rows) >= 320
    assert len({row["message"].casefold() for row in rows}) == len(rows)
    assert len({row["queue"] for row in rows}) == 8
    assert all(row["message"].strip() and row["topic"] for row in rows)
