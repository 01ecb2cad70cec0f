"""The canonical chat form: ``messages = [{role, content}, ...]``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from tasks.core.config import ChatTask

MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
"""The Arrow type of a conversation, as every stage stores it."""
Message = dict[str, str]


def to_messages(task: ChatTask, row: Mapping[str, Any]) -> list[Message]:
    """The training conversation of a row: system (if the task has one), user, assistant."""
    system = [{"role": "system", "content": task.system}] if task.system else []
    return [
        *system,
        {"role": "user", "content": str(row[task.input])},
        {"role": "assistant", "content": str(row[task.output])},
    ]


def user_text(messages: Sequence[Mapping[str, str]]) -> str:
    """What the user said, all turns: the text by which duplicates and leaks are found."""
    return "\n".join(message["content"] for message in messages if message["role"] == "user")


def why_invalid(messages: Sequence[Mapping[str, str]]) -> str | None:
    """What makes a conversation unfit for training, or None.

    A fit one has no empty turn, at most one system turn (the first), and ends with the assistant's.
    """
    roles = [message["role"] for message in messages]
    if not roles or roles[-1] != "assistant":
        return "the last turn is not the assistant's"
    if "user" not in roles:
        return "there is no user turn"
    if "system" in roles[1:]:
        return "a system turn that is not the first"
    if any(not message["content"].strip() for message in messages):
        return "an empty turn"
    return None
