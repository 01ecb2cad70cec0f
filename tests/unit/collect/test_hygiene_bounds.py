"""Hygiene takes time in proportion to the text, and loses nothing of a tool call without saying so."""

from __future__ import annotations

import json
import time

import pytest

from tasks.collect.config import Hygiene
from tasks.collect.forms import Conversation
from tasks.collect.hygiene import Cleaner
from tasks.collect.hygiene.secret_patterns import find_secrets
from tasks.collect.records import Rejected
from tests.unit.collect.cleaning import clean

HEADS = [f"-----BEGIN RSA {'PRIVATE'} KEY-----", f"BEGIN OPENSSH {'PRIVATE'} KEY ", "PuTTY-User-Key-File-2"]
END = f"-----END RSA {'PRIVATE'} KEY-----"


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("behind", ["", "\n", "-----END "])
def test_heads_of_keys_that_never_end_take_linear_time(head: str, behind: str) -> None:
    begun = time.perf_counter()
    assert find_secrets((head + behind) * (200_000 // len(head + behind)))
    assert time.perf_counter() - begun < 4


def test_a_key_goes_as_a_whole_also_behind_a_head_without_a_key() -> None:
    key = f"{HEADS[0]}\n{'MIIEow' * 3_000}\n{END}"
    text = f"write {HEADS[0]} first, then {'x ' * 10_000}{key} and so on"
    assert clean(text, secrets="redact") == "write [SECRET][SECRET] and so on"
    assert clean(f"a {key} b {key} c", secrets="redact") == "a [SECRET] b [SECRET] c"
    assert clean(f"a {HEADS[0]}\nMIIEow", secrets="redact") == "a [SECRET]"


def test_keys_of_an_argument_that_become_one_are_a_rule_and_no_silent_loss() -> None:
    def called(arguments: dict[str, int]) -> str:
        call = {"id": None, "name": "count", "arguments": json.dumps(arguments)}
        conversation = Conversation([{"role": "assistant", "content": "", "tool_calls": [call]}], None, {})
        cleaned = Cleaner(Hygiene(), ()).clean(conversation)
        return str(cleaned.messages[0]["tool_calls"][0]["arguments"])

    assert json.loads(called({"ann@example.org": 1, "bob": 2})) == {"[EMAIL]": 1, "bob": 2}
    with pytest.raises(Rejected, match=r"^tool_call: two keys of an object become the same") as caught:
        called({"ann@example.org": 1, "bob@example.org": 2})
    assert "@" not in str(caught.value)
