"""Draws are fair, come out the same every time, and change as little as possible when what is drawn from changes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.generate.sampling import ExamplePool, draw_value, hash_of

Weights = Mapping[str, float]
weights = st.dictionaries(st.text(max_size=4), st.floats(0.01, 100), min_size=1, max_size=8)
ROW = {"document_id": "row", "queue": "cards"}


def pool(size: int, first: int = 0) -> list[dict[str, str]]:
    return [{"document_id": f"d{number}", "queue": ("cards", "bills")[number % 2]} for number in range(first, size)]


def drawn(documents: list[dict[str, str]], key: str, count: int = 3, same: str | None = None) -> list[str]:
    return [str(document["document_id"]) for document in ExamplePool(documents).draw(ROW, count, key, same)]


def test_values_come_as_often_as_their_weights_say() -> None:
    """Four standard deviations of 20,000 draws: a share of 0.6 to 0.014, of 0.1 to 0.009."""
    counts = Counter(draw_value({"a": 6, "b": 3, "c": 1, "never": 0}, f"row {number}") for number in range(20_000))
    assert "never" not in counts
    for value, share in (("a", 0.6), ("b", 0.3), ("c", 0.1)):
        assert counts[value] / 20_000 == pytest.approx(share, abs=4 * (share * (1 - share) / 20_000) ** 0.5)


@given(weights, st.text(max_size=10))
def test_a_draw_depends_on_the_weights_and_the_key_alone(given_weights: Weights, key: str) -> None:
    value = draw_value(given_weights, key)
    assert value in given_weights
    assert draw_value(dict(sorted(given_weights.items(), reverse=True)), key) == value
    assert draw_value({name: 2 * weight for name, weight in given_weights.items()}, key) == value


@given(weights, st.text(max_size=10), st.text(min_size=5, max_size=6))
def test_a_value_more_takes_rows_and_moves_no_others(given_weights: Weights, key: str, more: str) -> None:
    assert draw_value({**given_weights, more: 1.0}, key) in (draw_value(given_weights, key), more)


def test_no_two_pairs_of_key_and_text_share_their_hash() -> None:
    assert len({hash_of("a", "bc"), hash_of("ab", "c"), hash_of("", "abc"), hash_of("abc", "")}) == 4


@settings(deadline=None)
@given(st.integers(0, 40), st.integers(1, 100), st.text(max_size=5), st.booleans())
def test_examples_are_different_others_as_many_as_there_are(size: int, count: int, key: str, within: bool) -> None:
    documents = [*pool(size), ROW]
    names = drawn(documents, key, count, "queue" if within else None)
    there = [document for document in pool(size) if not within or document["queue"] == "cards"]
    assert len(names) == len(set(names)) == min(count, len(there))
    assert set(names) <= {document["document_id"] for document in there}
    assert drawn(documents[::-1], key, count, "queue" if within else None) == names


def test_a_document_without_the_shared_field_is_no_example() -> None:
    assert drawn([{"document_id": "a", "message": "x"}, *pool(1)], "key", same="queue") == ["d0"]
    assert ExamplePool(pool(4)).draw({"document_id": "x"}, 1, "key", "queue") == []


def test_a_document_that_has_nothing_to_show_is_no_example() -> None:
    """As one of a source of another form."""
    others: list[dict[str, str | None]] = [
        {"document_id": "a", "text": "x"},
        {"document_id": "b", "queue": None, "note": "y"},
    ]
    found = ExamplePool([*others, {**pool(1)[0]}]).draw(ROW, 3, "key", fields=("queue", "note"))
    assert {document["document_id"] for document in found} == {"b", "d0"}


def test_every_document_is_drawn_about_as_often() -> None:
    """100 times each; a chance, the mean of 33 gaps, varies by a sixth, and the counting by a tenth."""
    ring = ExamplePool(pool(300))
    names = (document["document_id"] for row in range(10_000) for document in ring.draw(ROW, 3, f"row {row}"))
    counts = Counter(names)
    assert len(counts) == 300
    assert min(counts.values()) > 40 and max(counts.values()) < 175


def test_a_document_more_moves_few_draws() -> None:
    before, after = ExamplePool(pool(1_000)), ExamplePool(pool(1_001))
    changed = sum(before.draw(ROW, 3, f"row {row}") != after.draw(ROW, 3, f"row {row}") for row in range(2_000))
    assert 0 < changed < 40  # 3 in 1,000 for the new one, as much again for the one it pushes out of the window


def test_draws_do_not_slow_down_with_the_number_of_documents() -> None:
    def seconds(size: int) -> float:
        ring = ExamplePool(pool(size))
        ring.draw(ROW, 3, "first")
        started = time.process_time()
        for row in range(1_000):
            ring.draw(ROW, 3, f"row {row}")
        return time.process_time() - started

    assert seconds(50_000) < 5 * seconds(500)
