"""Reading one row of any form, and the turns that the tests of forms are made of."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.collect.config import FileSource, Form, Layout
from tasks.collect.forms import Conversation, convert
from tasks.collect.records import Rejected
from tasks.core.config import ChatTask
from tasks.core.messages import Message

PLAIN = ChatTask()


def read(
    row: dict[str, Any],
    form: Form | None = None,
    *,
    columns: dict[str, str] | None = None,
    task: ChatTask = PLAIN,
    named: tuple[str, ...] = (),
    **layout: Any,
) -> Conversation:
    source = FileSource(path="rows", form=form, layout=Layout.model_validate(layout))
    return convert(row, source, columns or {}, task, named)


def rule(row: dict[str, Any], form: Form | None = None, **settings: Any) -> str:
    with pytest.raises(Rejected) as caught:
        read(row, form, **settings)
    return str(caught.value)


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def assistant(text: str) -> Message:
    return {"role": "assistant", "content": text}


def system(text: str) -> Message:
    return {"role": "system", "content": text}


def turn(role: str, value: Any) -> dict[str, Any]:
    return {"from": role, "value": value}
