"""Personal data, secrets and licences: found, and dealt with as the recipe says.

What looks like a secret is made when a test runs, so that no scanner of a repository takes it for one.
"""

from __future__ import annotations

import base64
import csv
import json
import random
import string
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from tasks.collect.config import Hygiene
from tasks.collect.forms import Conversation
from tasks.collect.hygiene import Cleaner, check_licence
from tasks.collect.hygiene.personal_data import find_personal_data
from tasks.collect.hygiene.secret_patterns import find_secrets, shapes
from tasks.collect.records import Rejected
from tasks.core.config import ModelSource
from tasks.core.control_tokens import control_tokens
from tasks.core.home import PROJECT_ROOT
from tasks.core.messages import Message
from tests.unit.collect.cleaning import clean, document

DATA = PROJECT_ROOT.parent / "shared" / "data"
SEEDLING = PROJECT_ROOT / "seedling" / "model"
START = "<|im_start|>"
DICE = random.Random(3)


def letters(count: int, alphabet: str = string.ascii_letters + string.digits) -> str:
    return "".join(DICE.choices(alphabet, k=count))


def found(text: str) -> list[tuple[str, str]]:
    return [(finding.kind, text[finding.start : finding.end]) for finding in find_personal_data(text)]


# personal data


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Write to ann.lee+shop@mail.example.co.uk today", "Write to [EMAIL] today"),
        ("Call (202) 555-0123, or +44 20 7946 0958.", "Call [PHONE], or [PHONE]."),
        ("my mobile: 2025550123", "my mobile: [PHONE]"),
        ("card 4111 1111 1111 1111 please", "card [CREDIT_CARD] please"),
        ("pay DE89 3704 0044 0532 0130 00 now", "pay [IBAN] now"),
        ("from 8.8.8.8 or 2001:4860:4860::8888", "from [IP_ADDRESS] or [IP_ADDRESS]"),
        ("mac 00:1A:2B:3C:4D:5E", "mac [MAC_ADDRESS]"),
        ("SSN 536-22-8145", "SSN [US_SSN]"),
        ("send to 1BoatSLRHtKNngkdXEeobR76b53LETtpyT", "send to [CRYPTO_WALLET]"),
    ],
)
def test_personal_data_become_marks(text: str, expected: str) -> None:
    assert clean(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "card 4111 1111 1111 1112",
        "pay DE89 3704 0044 0532 0130 01",
        "to 1BoatSLRHtKNngkdXEeobR76b53LETtpyU",
        "me@localhost, you@host.notadomain",
        "servers 192.168.1.1, 127.0.0.1, 10.0.0.7 and fe80::1",
        "version 1.2.3.4.5, section ::add, at 12:30:45",
        "arccos(-0.3571428571) on 2026-01-02, 1939-1945, ISBN 978-3-16-148410-0",
        "order 2025550123 for $1,234,567.89",
        "SSN 000-12-3456 is never issued",
    ],
)
def test_what_fails_its_checksum_or_says_nothing_of_anybody_stays(text: str) -> None:
    assert found(text) == []
    assert clean(text) == text


@pytest.mark.parametrize(
    ("policy", "done"), [("allow", "allowed"), ("redact", "redacted"), ("quarantine", "quarantined")]
)
def test_the_recipe_decides_and_kinds_are_counted(policy: str, done: str) -> None:
    cleaner = Cleaner(Hygiene.model_validate({"personal_data": policy}), ())
    conversation = document("a@example.org and b@example.org", "a@example.org", note="call (202) 555-0123")
    if policy == "quarantine":
        with pytest.raises(Rejected, match=r"^personal_data: email$"):
            cleaner.clean(conversation)
        assert cleaner.kinds == {"email quarantined": 2}
        return
    cleaned = cleaner.clean(conversation)
    assert cleaner.kinds == {f"email {done}": 2, f"phone {done}": 1}
    assert (cleaned == conversation) == (policy == "allow")


def test_a_rejection_never_repeats_what_it_found() -> None:
    for text in ("a@example.org", SECRETS["aws"]()):
        with pytest.raises(Rejected) as caught:
            clean(text, personal_data="quarantine")
        assert text not in str(caught.value)


def test_a_masked_text_has_a_mark_for_all_that_is_not_allowed() -> None:
    secret = SECRETS["github"]()
    text = f"a@example.org {secret}"
    cleaner = Cleaner(Hygiene(), ())
    assert cleaner.masked(text) == "[EMAIL] [SECRET]" and not cleaner.kinds
    assert Cleaner(Hygiene(personal_data="allow"), ()).masked(text) == "a@example.org [SECRET]"


def test_tool_calls_and_tools_are_cleaned_and_stay_json() -> None:
    arguments = {"to": 'say "hi" to a@example.org', "list": ["b@example.org", 5], "number": 4111111111111111, "n": 1.5}
    call: Message = {"id": "c1", "name": "send", "arguments": json.dumps(arguments)}
    tools = json.dumps([{"type": "function", "function": {"name": "send", "description": "like a@example.org"}}])
    conversation = Conversation(
        [
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "content": "ok", "tool_call_id": "c1"},
        ],
        tools,
        {},
    )
    cleaned = Cleaner(Hygiene(), ()).clean(conversation)
    (changed,) = cleaned.messages[0]["tool_calls"]
    assert json.loads(changed["arguments"]) == {
        "to": 'say "hi" to [EMAIL]', "list": ["[EMAIL]", 5], "number": "[CREDIT_CARD]", "n": 1.5,
    }  # fmt: skip
    assert json.loads(cleaned.tools or "")[0]["function"]["description"] == "like [EMAIL]"
    assert (changed["id"], changed["name"], cleaned.messages[1]["tool_call_id"]) == ("c1", "send", "c1")
    assert arguments["to"] in json.loads(call["arguments"])["to"], "the document that was given is not changed"


def test_arguments_without_a_find_keep_their_very_text() -> None:
    spelled = '{"b": 1,   "a": "x"}'
    message: Message = {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": None, "name": "f", "arguments": spelled}],
    }
    cleaned = Cleaner(Hygiene(), (START,)).clean(Conversation([message], None, {}))
    assert cleaned.messages == [message]


def test_the_recognisers_load_no_language_model_and_ask_no_network() -> None:
    code = """
import socket, sys
def refuse(*args, **kwargs): raise AssertionError("the network was asked")
socket.socket.connect = socket.getaddrinfo = refuse
from tasks.collect.hygiene.personal_data import find_personal_data
assert find_personal_data("write to a@example.org")[0].kind == "email"
assert not {"torch", "transformers"} & set(sys.modules), "a language model's package is loaded"
import torch
assert torch.tensor([1]).sum() == 1
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_huge_text_of_digits_or_signs_takes_seconds_at_most() -> None:
    started = time.process_time()
    for text in ("a" * 2_000_000 + "@", "1" * 50_000, "a-" * 50_000 + "@b.example", "QUJD" * 100_000, "sk-" * 10_000):
        assert found(text) == [] and find_secrets(text) == []
    assert time.process_time() - started < 20


def test_an_address_in_the_middle_of_a_long_text_is_found_in_its_place() -> None:
    text = "word " * 50_000 + "a@example.org" + " word" * 50_000
    assert found(text) == [("email", "a@example.org")]


# secrets


def web_token() -> str:
    parts = ({"alg": "HS256"}, {"sub": "ann", "n": 1})
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join([*encoded, letters(43)])


def private_key() -> str:
    lines = "\n".join(letters(64) for _ in range(3))
    return f"-----BEGIN RSA {'PRIVATE'} KEY-----\n{lines}\n-----END RSA {'PRIVATE'} KEY-----"


SECRETS: dict[str, Callable[[], str]] = {
    "anthropic": lambda: "sk-" + "ant-api03-" + letters(90),
    "aws": lambda: "AK" + "IA" + letters(16, string.ascii_uppercase),
    "azure_storage": lambda: "Account" + "Key=" + letters(86) + "==",
    "discord": lambda: "M" + letters(23) + "." + letters(6) + "." + letters(27),
    "github": lambda: "gh" + "p_" + letters(36),
    "gitlab": lambda: "gl" + "pat-" + letters(20),
    "google": lambda: "AI" + "za" + letters(35),
    "huggingface": lambda: "h" + "f_" + letters(34, string.ascii_letters),
    "jwt": web_token,
    "mailchimp": lambda: letters(32, "0123456789abcdef") + "-us" + "12",
    "npm": lambda: "np" + "m_" + letters(36),
    "openai": lambda: "sk-" + letters(20) + "T3Blbk" + "FJ" + letters(20),
    "private_key": private_key,
    "pypi": lambda: "pypi-" + "AgEIcHlwaS5vcmc" + letters(80),
    "sendgrid": lambda: "S" + "G." + letters(22) + "." + letters(43),
    "slack": lambda: "xo" + "xb-" + "1234567890-" + letters(24, string.ascii_lowercase),
    "square": lambda: "sq0" + "csp-" + letters(43),
    "stripe": lambda: "sk" + "_live_" + letters(24),
    "telegram": lambda: letters(9, "123456789") + ":" + letters(35),
    "twilio": lambda: "S" + "K" + letters(32, "0123456789abcdef"),
    "basic_auth": lambda: letters(12),
}


def test_every_kind_of_secret_is_tested() -> None:
    assert set(SECRETS) == {shape.kind for shape in shapes()}


@pytest.mark.parametrize("kind", SECRETS)
def test_a_secret_is_quarantined_or_redacted_whole(kind: str) -> None:
    secret = SECRETS[kind]()
    text = f"see https://ann:{secret}@example.org/x ok" if kind == "basic_auth" else f"my key: {secret} ok"
    with pytest.raises(Rejected, match=rf"^secrets: .*\b{kind}\b"):
        clean(text)
    redacted = clean(text, secrets="redact")
    assert redacted == text.replace(secret, "[SECRET]")
    assert clean(text, secrets="allow", personal_data="allow") == text


def test_a_private_key_that_never_ends_is_redacted_to_the_end() -> None:
    assert clean("key " + private_key()[:100], secrets="redact") == "key [SECRET]"


def test_a_secret_deep_in_a_long_text_is_found() -> None:
    secret = SECRETS["github"]()
    for position in (0, 4_090, 8_180, 60_000):
        text = "x " * (position // 2) + secret + " y" * 10_000
        assert clean(text, secrets="redact") == text.replace(secret, "[SECRET]")


@pytest.mark.parametrize(
    "text",
    ["https://example.org/a/b?c=d#e", "x" * 200, "AKIA", "eyJ.eyJ.x", "BEGIN PUBLIC KEY", "pass" + "word: hunter2"],
)
def test_what_only_looks_a_little_like_a_secret_stays(text: str) -> None:
    assert find_secrets(text) == []


# licences


def test_a_licence_is_on_the_list_or_the_document_is_refused() -> None:
    check_licence(None, None)
    check_licence("anything", None)
    check_licence(" apache-2.0 ", ("MIT", "Apache-2.0"))
    for licence in (None, "", " "):
        with pytest.raises(Rejected, match=r"^licence: the document has none"):
            check_licence(licence, ("MIT",))
    with pytest.raises(Rejected, match=r"^licence: 'GPL-3.0' is not allowed"):
        check_licence("GPL-3.0", ("MIT",))
    with pytest.raises(Rejected):
        check_licence("MIT", ())


# precision and speed on real text


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data sets are not here")
def test_twenty_thousand_clean_messages_are_left_alone_and_take_two_seconds_at_most() -> None:
    rows = [
        row["text"]
        for name in ("train", "validation", "test")
        for row in csv.DictReader((DATA / "clinc150" / f"{name}.csv").open(encoding="utf-8"))
    ][:20_000]
    cleaner = Cleaner(Hygiene(), control_tokens(ModelSource(path=str(SEEDLING))))
    documents = [document(row, text=row) for row in rows]
    started = time.process_time()
    cleaned = [cleaner.clean(one) for one in documents]
    seconds = time.process_time() - started
    assert cleaned == documents and not cleaner.kinds
    assert len(rows) / seconds > 10_000


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data sets are not here")
def test_in_a_thousand_real_answers_only_addresses_are_found() -> None:
    rows = json.loads((DATA / "alpaca_demo" / "alpaca_en_demo.json").read_text(encoding="utf-8"))
    cleaner = Cleaner(Hygiene(), ())
    for row in rows:
        cleaner.clean(document(row["instruction"], row["input"], row["output"]))
    assert set(cleaner.kinds) == {"email redacted"}
