"""A document of some texts, and one text cleaned."""

from __future__ import annotations

from typing import Any

from tasks.collect.config import Hygiene
from tasks.collect.forms import Conversation
from tasks.collect.hygiene import Cleaner


def document(*texts: str, **fields: str) -> Conversation:
    return Conversation([{"role": "user", "content": text} for text in texts], None, fields)


def clean(text: str, tokens: tuple[str, ...] = (), **settings: Any) -> str:
    found = Cleaner(Hygiene.model_validate(settings), tokens).clean(document(text))
    return str(found.messages[0]["content"])
