"""Conversations as columns mean what the core says of each one."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.files import canonical_json
from tasks.core.messages import MESSAGES, plain, turn_text, user_text, why_invalid
from tasks.validate.conversations import (
    BAD_ARGUMENTS,
    CONVERSATION,
    as_conversations,
    as_json,
    by_batches,
    role_texts,
    unfit_reasons,
)

TEXTS = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        ["", " ", "\x1c", "\u2003", "\u00a0\n", "我的卡", "أين", "🎉", 'a "b" \\ c', "\x00\x1f", "x" * 500]
    ),
)
CALLS = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.one_of(st.none(), TEXTS),
            "name": TEXTS,
            "arguments": st.sampled_from(["{}", '{"a": [1, "b"]}', "7", '"x"']),
        }
    ),
    max_size=2,
)
TURNS = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["system", "user", "assistant", "tool"]),
        "content": st.one_of(st.none(), TEXTS),
        "tool_calls": st.one_of(st.none(), CALLS),
        "tool_call_id": st.one_of(st.none(), TEXTS),
        "weight": st.sampled_from([None, 0, 1]),
    }
)
CONVERSATIONS = st.one_of(st.none(), st.lists(TURNS, max_size=5))


@given(st.lists(CONVERSATIONS, max_size=5), st.integers(0, 3))
def test_columns_say_what_the_core_says_of_each_conversation(found: list[Any], skipped: int) -> None:
    """Of a slice too: arrays have offsets then."""
    column = as_conversations(pa.array(found, MESSAGES)).slice(skipped)
    spoken = [plain(one) if one else None for one in found[skipped:]]
    assert role_texts(column, "user").to_pylist() == [one and user_text(one) for one in spoken]
    answers = [one and "\n".join(turn_text(turn) for turn in one if turn["role"] == "assistant") for one in spoken]
    assert role_texts(column, "assistant").to_pylist() == answers
    assert as_json(column).to_pylist() == [one and canonical_json(one) for one in spoken]
    assert unfit_reasons(column).to_pylist() == [why_invalid(one or []) for one in spoken]


def test_arguments_that_are_no_json_are_a_reason_and_no_crash() -> None:
    call = [{"id": "1", "name": "f", "arguments": "{"}]
    turns = [{"role": "user", "content": "go"}, {"role": "assistant", "content": "", "tool_calls": call}]
    column = as_conversations(pa.array([turns], MESSAGES))
    assert unfit_reasons(column).to_pylist() == [BAD_ARGUMENTS]
    assert role_texts(column, "assistant").to_pylist() == ['{"arguments":"{","name":"f"}']


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["text", None]),
        pa.array([1, 2]),
        pa.array([["a"], []]),
        pa.array([[{"speaker": "me", "words": "hi"}], None]),
        pa.array([{"role": "user", "content": "hi"}, None]),
        pa.array([[{"role": {"deep": 1}, "content": "hi"}], None]),
        pa.nulls(2),
    ],
    ids=str,
)
def test_a_column_of_another_kind_has_no_conversations(column: pa.Array) -> None:
    found = as_conversations(column)
    assert found.type == CONVERSATION and found.null_count == 2
    assert role_texts(found, "user").to_pylist() == as_json(found).to_pylist() == [None, None]


def test_turns_without_calls_in_their_type_and_missing_turns_are_read() -> None:
    kind = pa.large_list(pa.struct([("content", pa.large_string()), ("role", pa.dictionary(pa.int32(), pa.string()))]))
    turns = [None, {"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
    column = as_conversations(pa.array([turns], kind))
    assert as_json(column).to_pylist() == ['[{"content":"hi","role":"user"},{"content":"ho","role":"assistant"}]']
    assert unfit_reasons(column).to_pylist() == [None]


def test_chunks_of_any_length_come_out_as_they_went_in() -> None:
    chunks = pa.chunked_array([["a"] * 60_000, [], ["b"]])
    assert by_batches(lambda batch: batch, chunks, pa.string()).to_pylist() == ["a"] * 60_000 + ["b"]
    assert len(by_batches(lambda batch: batch, pa.array([], pa.string()), pa.string())) == 0
