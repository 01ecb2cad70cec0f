"""Clean every text of a document as the recipe's hygiene section says."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any, Literal

from tasks.collect import config
from tasks.collect.forms import Conversation
from tasks.collect.hygiene.personal_data import find_personal_data
from tasks.collect.hygiene.secret_patterns import find_secrets
from tasks.collect.hygiene.text_spans import TextSpan, redacted, without_overlaps
from tasks.collect.records import Rejected
from tasks.core.control_tokens import TokenGuard
from tasks.core.messages import Message

Change = Callable[[str], str]
Policy = Literal["allow", "redact", "quarantine"]
DONE = {"allow": "allowed", "redact": "redacted", "quarantine": "quarantined"}
SECRET = "secret:"
LONG_NUMBER = 10**6
"""Smaller numbers cannot be a telephone or card number."""


class Cleaner:
    """Cleans documents; counts spans by kind and action, such as ``email redacted``, once a document.

    Personal data become marks such as ``[EMAIL]``, secrets become ``[SECRET]``; a backslash after the first character
    disarms a control token.
    """

    def __init__(self, settings: config.Hygiene, control_tokens: Sequence[str]) -> None:
        self.settings = settings
        self.guard = TokenGuard(control_tokens)
        self.kinds: Counter[str] = Counter()

    def clean(self, conversation: Conversation) -> Conversation:
        cleaned: dict[str, str] = {}
        found: set[tuple[str, str, str]] = set()

        def clean_text(text: str) -> str:
            if text not in cleaned:
                cleaned[text] = self._clean(text, found)
            return cleaned[text]

        try:
            return change_texts(conversation, clean_text)
        except RecursionError as error:
            raise Rejected("nesting: a tool call is nested too deeply") from error
        finally:
            self.kinds.update(f"{kind} {done}" for kind, done, _ in found)

    def clean_again(self, conversation: Conversation) -> Conversation:
        """Apply today's rules to a document cleaned under older rules; escaped tokens stay escaped."""
        return change_texts(conversation, lambda text: self._clean(text, set(), again=True))

    def masked(self, text: str) -> str:
        """The text with a mark for everything that is not allowed, quarantined kinds included; nothing is counted."""
        spans = without_overlaps([*find_secrets(text), *find_personal_data(text)])
        return redacted(text, [span for span in spans if self._policy(span) != "allow"])

    def _clean(self, text: str, found: set[tuple[str, str, str]], again: bool = False) -> str:
        spans = without_overlaps([*find_secrets(text), *find_personal_data(text)])
        for span in spans:
            found.add((span.kind, DONE[self._policy(span)], text[span.start : span.end]))
        self._refuse([span for span in spans if self._policy(span) == "quarantine"])
        text = redacted(text, [span for span in spans if self._policy(span) == "redact"])
        return self._without_tokens(text, found, again) if self.guard.may_hold(text) else text

    def _without_tokens(self, text: str, found: set[tuple[str, str, str]], again: bool) -> str:
        tokens = sorted(set(self.guard.find(text)))
        if again and not tokens:
            return text
        escaped = self.guard.escape(text) if self.settings.control_tokens == "escape" else text
        is_clean = not self.guard.find(escaped)
        found.update(("control_token", "escaped" if is_clean else "quarantined", token) for token in tokens)
        if not is_clean:
            raise Rejected(f"control_tokens: {', '.join(tokens)}")
        return escaped

    def _policy(self, span: TextSpan) -> Policy:
        return self.settings.secrets if span.kind.startswith(SECRET) else self.settings.personal_data

    @staticmethod
    def _refuse(spans: Collection[TextSpan]) -> None:
        kinds = sorted({span.kind for span in spans})
        secrets = [kind.removeprefix(SECRET) for kind in kinds if kind.startswith(SECRET)]
        if secrets:
            raise Rejected(f"secrets: {', '.join(secrets)}")
        if kinds:
            raise Rejected(f"personal_data: {', '.join(kinds)}")


def change_texts(conversation: Conversation, change: Change) -> Conversation:
    """A document with every text changed: fields, turns, and the strings in tool calls and tools, which stay JSON."""
    tools = conversation.tools
    return replace(
        conversation,
        messages=[_change_message(message, change) for message in conversation.messages],
        tools=None if tools is None else _change_json(tools, change),
        fields={name: change(text) for name, text in conversation.fields.items()},
    )


def _change_message(message: Message, change: Change) -> Message:
    changed = {**message, "content": change(message["content"])}
    if "tool_calls" in message:
        changed["tool_calls"] = [
            {
                "id": call["id"] and change(call["id"]),
                "name": change(call["name"]),
                "arguments": _change_json(call["arguments"], change),
            }
            for call in message["tool_calls"]
        ]
    if "tool_call_id" in message:
        changed["tool_call_id"] = change(message["tool_call_id"])
    return changed


def _change_json(text: str, change: Change) -> str:
    value = json.loads(text)
    changed = _change_value(value, change)
    return text if changed == value else json.dumps(changed, ensure_ascii=False)


def _change_value(value: Any, change: Change) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [_change_value(item, change) for item in value]
    if isinstance(value, dict):
        changed_items = {change(key): _change_value(item, change) for key, item in value.items()}
        if len(changed_items) < len(value):
            raise Rejected("tool_call: two keys of an object become the same once they are cleaned")
        return changed_items
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= LONG_NUMBER:
        written = str(value)
        changed = change(written)
        return value if changed == written else changed
    return value


def check_licence(licence: str | None, allowed: Collection[str] | None) -> None:
    """Refuse a document whose licence is not in the list, case ignored; None allows all."""
    if allowed is None:
        return
    if licence is None or not licence.strip():
        raise Rejected("licence: the document has none")
    if licence.strip().casefold() not in {name.casefold() for name in allowed}:
        raise Rejected(f"licence: {licence.strip()!r} is not allowed")
