"""Which split a document belongs to: the same whatever the order of reading, and one side only for one text."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from hypothesis import given
from hypothesis import strategies as st

from tasks.collect.splits import DUPLICATE, HOLDOUT, SAME_ID, SUPERSEDED, TRAIN, Index, resolve


@dataclass(frozen=True)
class Doc:
    id: str
    text: str = "a"
    answer: str = "x"
    version: int = 0
    held: bool = False
    source: int = 0


def outcomes(
    documents: Sequence[Doc], held_ids: Collection[str] = (), held_inputs: Collection[bytes] = ()
) -> list[str]:
    index = Index()
    for one in documents:
        index.ids.append(one.id)
        index.named.append(True)
        index.inputs.append(one.text.encode())
        index.contents.append(f"{one.text}|{one.answer}".encode())
        index.sources.append(one.source)
        index.versions.append(one.version)
        index.held.append(one.held)
    found: list[str] = resolve(index, held_ids, held_inputs).tolist()
    return found


def test_an_empty_table_has_no_outcomes() -> None:
    assert outcomes([]) == []


def test_a_second_copy_is_a_duplicate_and_the_smallest_id_stays() -> None:
    assert outcomes([Doc("2"), Doc("1")]) == [DUPLICATE, TRAIN]


def test_the_newest_version_of_an_id_stays() -> None:
    assert outcomes([Doc("1", "old", version=1), Doc("1", "new", version=2)]) == [SUPERSEDED, TRAIN]
    assert outcomes([Doc("1", "new", version=2), Doc("1", "old", version=1)]) == [TRAIN, SUPERSEDED]


def test_two_documents_of_one_id_and_version_are_told_apart_by_their_content_alone() -> None:
    assert outcomes([Doc("1", "b"), Doc("1", "a")]) == [SAME_ID, TRAIN]


def test_a_text_is_on_one_side_only() -> None:
    assert outcomes([Doc("1", "t", "x"), Doc("2", "t", "y", held=True)]) == [HOLDOUT, HOLDOUT]


def test_of_equal_documents_those_held_out_before_stay() -> None:
    assert outcomes([Doc("1"), Doc("2"), Doc("3", held=True)], held_ids={"2"}) == [DUPLICATE, HOLDOUT, DUPLICATE]
    assert outcomes([Doc("1"), Doc("2"), Doc("3")], held_ids={"1", "3"}) == [HOLDOUT, DUPLICATE, HOLDOUT]


def test_an_input_that_was_held_out_before_never_trains() -> None:
    assert outcomes([Doc("9", "t")], held_inputs={b"t"}) == [HOLDOUT]


def test_versions_are_compared_within_a_source_only() -> None:
    assert outcomes([Doc("1", "b", version=5), Doc("1", "a", version=0, source=1)]) == [SAME_ID, TRAIN]


DOCUMENTS = st.lists(
    st.builds(
        Doc,
        id=st.sampled_from("123456"),
        text=st.sampled_from("abc"),
        answer=st.sampled_from("xy"),
        version=st.integers(0, 2),
        source=st.integers(0, 1),
    ),
    max_size=12,
).map(lambda docs: [replace(doc, held=int(doc.id) % 3 == 0) for doc in docs])


@given(DOCUMENTS, st.randoms(use_true_random=False), st.sets(st.sampled_from("123456")))
def test_nothing_depends_on_the_order_of_reading(documents: list[Doc], mixer: random.Random, held: set[str]) -> None:
    shuffled = documents[:]
    mixer.shuffle(shuffled)

    def kept(docs: list[Doc]) -> set[tuple[str, str, str, str]]:
        pairs = zip(docs, outcomes(docs, held), strict=True)
        return {(outcome, doc.id, doc.text, doc.answer) for doc, outcome in pairs if outcome in (TRAIN, HOLDOUT)}

    assert kept(documents) == kept(shuffled)


@given(DOCUMENTS, st.sets(st.sampled_from("123456")), st.sets(st.sampled_from([b"a", b"b"])))
def test_no_text_and_no_id_of_the_holdout_is_in_training(
    documents: list[Doc], held_ids: set[str], held_inputs: set[bytes]
) -> None:
    sides: dict[str, set[str]] = {TRAIN: set(), HOLDOUT: set()}
    ids: list[str] = []
    for doc, outcome in zip(documents, outcomes(documents, held_ids, held_inputs), strict=True):
        if outcome in sides:
            sides[outcome].add(doc.text)
            ids.append(doc.id)
            held = doc.held or doc.id in held_ids or doc.text.encode() in held_inputs
            assert outcome == HOLDOUT or not held
    assert not sides[TRAIN] & sides[HOLDOUT]
    assert len(ids) == len(set(ids))
