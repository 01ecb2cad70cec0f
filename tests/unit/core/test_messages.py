"""The canonical chat form."""

from __future__ import annotations

import pytest

from tasks.core.config import ChatTask
from tasks.core.messages import to_messages, user_text, why_invalid


def turns(*pairs: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in pairs]


def test_a_row_becomes_a_conversation_with_the_tasks_system_turn() -> None:
    task = ChatTask(system="Route it.", input="message", output="queue")
    row = {"message": "lost card", "queue": "cards", "topic": "unused"}
    assert to_messages(task, row) == turns(("system", "Route it."), ("user", "lost card"), ("assistant", "cards"))
    assert [turn["role"] for turn in to_messages(ChatTask(), {"input": "a", "output": "b"})] == ["user", "assistant"]


def test_the_users_text_is_all_that_the_user_said_and_nothing_else() -> None:
    talk = turns(("system", "s"), ("user", "one"), ("assistant", "a"), ("user", "two"), ("assistant", "b"))
    assert user_text(talk) == "one\ntwo"


@pytest.mark.parametrize(
    ("talk", "reason"),
    [
        (turns(("user", "a"), ("assistant", "b")), None),
        (turns(("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")), None),
        ([], "last turn"),
        (turns(("user", "a")), "last turn"),
        (turns(("assistant", "b")), "no user turn"),
        (turns(("user", "a"), ("system", "s"), ("assistant", "b")), "not the first"),
        (turns(("user", " \n"), ("assistant", "b")), "empty turn"),
    ],
)
def test_what_makes_a_conversation_unfit_is_named(talk: list[dict[str, str]], reason: str | None) -> None:
    found = why_invalid(talk)
    assert found is None if reason is None else reason in str(found)
