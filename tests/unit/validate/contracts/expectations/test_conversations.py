"""Which conversations are fit to train on."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.characters import is_blank
from tasks.validate.contracts.expectations.conversations import NoArguments, is_unfit_conversation, why_unfit

SYSTEM = {"role": "system", "content": "be brief"}
USER = {"role": "user", "content": "where is my card"}
ASSISTANT = {"role": "assistant", "content": "on its way"}
CALL = {"role": "assistant", "content": "", "tool_calls": [{"id": "1", "name": "find", "arguments": "{}"}]}
RESULT = {"role": "tool", "content": "found", "tool_call_id": "1"}

SAID = st.text(min_size=1, max_size=5).filter(lambda text: not is_blank(text))
EXCHANGE = st.tuples(SAID, SAID).map(
    lambda said: [{"role": "user", "content": said[0]}, {"role": "assistant", "content": said[1]}]
)
CONVERSATION = st.lists(EXCHANGE, min_size=1, max_size=4).map(lambda parts: [turn for part in parts for turn in part])


@pytest.mark.parametrize(
    "turns",
    [
        [USER, ASSISTANT],
        [SYSTEM, USER, ASSISTANT],
        [SYSTEM, USER, ASSISTANT, USER, ASSISTANT],
        [USER, CALL],
        [USER, CALL, RESULT, ASSISTANT],
        [USER, CALL, RESULT, RESULT, CALL, RESULT, ASSISTANT, USER, ASSISTANT],
        [{**USER, "content": "我的卡在哪里 🙂"}, {**ASSISTANT, "content": "في الطريق"}],
        [{**USER, "tool_calls": None, "tool_call_id": None}, {**ASSISTANT, "tool_calls": []}],
        [USER, {**CALL, "content": None}],
    ],
)
def test_a_fit_conversation_is_fit_as_json_and_as_a_list(turns: list[dict[str, Any]]) -> None:
    assert why_unfit(turns) is None
    assert why_unfit(json.dumps(turns, ensure_ascii=False)) is None


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ([USER], "the last turn is not the assistant's"),
        ([USER, ASSISTANT, USER], "the last turn is not the assistant's"),
        ([], "the last turn is not the assistant's"),
        ([SYSTEM, ASSISTANT], "there is no user turn"),
        ([USER, SYSTEM, ASSISTANT], "a system turn that is not the first"),
        ([ASSISTANT, USER, ASSISTANT], "a turn of assistant first"),
        ([USER, USER, ASSISTANT], "a turn of user after user"),
        ([USER, ASSISTANT, ASSISTANT], "a turn of assistant after assistant"),
        ([USER, RESULT, ASSISTANT], "a tool's result without a call"),
        ([USER, ASSISTANT, RESULT, ASSISTANT], "a tool's result without a call"),
        ([USER, CALL, ASSISTANT], "a turn of assistant after assistant that calls"),
        ([USER, CALL, USER, ASSISTANT], "a turn of user after assistant that calls"),
        ([USER, CALL, RESULT, USER, ASSISTANT], "a turn of user after tool"),
        ([{**USER, "content": " \n"}, ASSISTANT], "an empty turn"),
        ([USER, {**ASSISTANT, "content": None}], "an empty turn"),
        ([{"role": "human", "content": "hi"}, USER, ASSISTANT], "a turn of human first"),
        ([{"role": "user"}, ASSISTANT], "it is not a list of turns"),
        ([{**USER, "content": 3}, ASSISTANT], "it is not a list of turns"),
        ([USER, {**CALL, "tool_calls": [{"arguments": "{}"}]}], "a broken tool call"),
        ([USER, {**CALL, "tool_calls": [{"name": "find", "arguments": "{"}]}], "a broken tool call"),
        ([USER, {**CALL, "tool_calls": ["find"]}], "a broken tool call"),
        ("[{", "it is not valid JSON"),
        ('{"role": "user"}', "it is not a list of turns"),
        ("hello", "it is not valid JSON"),
        (3, "it is not a list of turns"),
    ],
)
def test_an_unfit_conversation_is_unfit_for_its_own_reason(value: Any, why: str) -> None:
    assert why_unfit(value) == why
    if isinstance(value, list):
        assert why_unfit(json.dumps(value)) == why


@given(CONVERSATION, st.data())
def test_a_conversation_that_alternates_is_fit_until_a_turn_is_lost_doubled_or_emptied(
    turns: list[dict[str, str]], data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(turns) - 1))
    lost, doubled = [*turns[:place], *turns[place + 1 :]], [*turns[: place + 1], *turns[place:]]
    emptied = [*turns[:place], {**turns[place], "content": ""}, *turns[place + 1 :]]
    column = pd.Series([json.dumps(form) for form in (turns, lost, doubled, emptied)], dtype=object)
    assert is_unfit_conversation(column, NoArguments()).tolist() == [False, True, True, True]
