"""The check on conversations: whether ``messages`` are fit to train on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.core.messages import why_invalid
from tasks.validate.contracts.expectations.own import Arguments, Mask, RowCheck, is_missing

if TYPE_CHECKING:
    import pandas as pd

MAY_FOLLOW = {
    None: ("system", "user"),
    "system": ("user",),
    "user": ("assistant",),
    "assistant": ("user",),
    "assistant that calls": ("tool",),
    "tool": ("tool", "assistant"),
}
"""Which roles may follow which: user and assistant alternate, and tool results come first after a tool call."""


class NoArguments(Arguments):
    """The check has no arguments of its own."""


def is_unfit_conversation(values: pd.Series[Any], arguments: NoArguments) -> Mask:
    """Values that are not well-formed conversations, by :func:`why_unfit`.

    A conversation is JSON text, as the stages store it, or a list of turns.
    """
    present = ~is_missing(values)
    unfit = np.zeros(len(values), bool)
    unfit[present] = [why_unfit(value) is not None for value in values[present]]
    return unfit


def why_unfit(conversation: Any) -> str | None:
    """Why a conversation is not fit for training, or None.

    A fit one is a list of ``{role, content, ...}``: optionally a system turn, then user and assistant in turns. After
    an assistant's turn that calls tools come one or more tool results, then the assistant again. No turn is empty, and
    the last is the assistant's.
    """
    try:
        turns = json.loads(conversation) if isinstance(conversation, str) else conversation
    except ValueError:
        return "it is not valid JSON"
    if not isinstance(turns, list) or not all(_is_turn(turn) for turn in turns):
        return "it is not a list of turns"
    try:
        return why_invalid(turns) or _wrong_order(turns)
    except (KeyError, TypeError, ValueError):  # a call without a name, or whose arguments are not valid JSON
        return "a broken tool call"


def _is_turn(turn: Any) -> bool:
    return (
        isinstance(turn, dict)
        and isinstance(turn.get("role"), str)
        and isinstance(turn.get("content"), str | None)
        and isinstance(turn.get("tool_calls"), list | None)
        and "content" in turn
    )


def _wrong_order(turns: Sequence[Mapping[str, Any]]) -> str | None:
    before = None
    for turn in turns:
        role = turn["role"]
        if role not in MAY_FOLLOW[before]:
            return f"a turn of {role} {f'after {before}' if before else 'first'}"
        before = "assistant that calls" if role == "assistant" and turn.get("tool_calls") else role
    return None


FIT = (
    "values must be conversations: user and assistant in turns, tools' results after calls, "
    "no empty turn, the assistant's last"
)
CHECKS = (RowCheck("expect_column_values_to_be_valid_messages", NoArguments, is_unfit_conversation, lambda _: FIT),)
