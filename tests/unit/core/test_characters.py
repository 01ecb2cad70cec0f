"""Characters that no reader sees are found where they are in no ordinary use, and nowhere else."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.characters import broken_command, hidden_characters, is_blank

ZWNJ, ZWJ, ZWSP, RLM = "\u200c", "\u200d", "\u200b", "\u200f"


def tags(text: str) -> str:
    return "".join(chr(0xE0000 + ord(character)) for character in text)


@pytest.mark.parametrize(
    "text",
    [
        "def f():\n\treturn 1\r\n\r\n",
        "a non-breaking\u00a0space, a line\u2028separator, \ufffd",
        f"\U0001f469\U0001f3fd{ZWJ}\U0001f680 \u2764\ufe0f{ZWJ}\U0001f525 \U0001f3f4{ZWJ}\u2620\ufe0f 1\ufe0f\u20e3",
        f"\U0001f3f4{tags('gbeng')}\U000e007f",
        f"\u0645\u06cc{ZWNJ}\u0634\u0648\u062f",
        f"\u0915\u094d{ZWJ}\u0937 \u0915\u094d{ZWNJ}\u0937",
        f"\u0d28\u0d28\u0d4d{ZWJ}",
        f"\u0e2a\u0e27\u0e31\u0e2a{ZWSP}\u0e14\u0e35",
        f"(\u05e9\u05dc\u05d5\u05dd!){RLM}",
        "\u845b\U000e0100",
        "\u182e\u1820\u180e",
    ],
    ids=["code", "spaces", "emoji", "flag", "persian", "devanagari", "malayalam", "thai", "hebrew", "han", "mongolian"],
)
def test_ordinary_uses_are_no_fault(text: str) -> None:
    assert hidden_characters(text) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (ZWSP, "U+200B"),
        ("\u00ad\u2060", "U+00AD U+2060"),
        ("\ufeffThe church.", "U+FEFF"),
        ("Turn \x08it \x1b[31mleft\x1b[0m.", "U+0008 U+001B"),
        ("a\x00b\x7fc\x85d\x9b", "U+0000 U+007F U+0085 U+009B"),
        ("a\rb", "U+000D"),
        ("a\x0bb\x0cc", "U+000B U+000C"),
        (f"pass{ZWJ}word{ZWNJ}s", "U+200C U+200D"),
        ("user\u202enimda\u202c \u2066x\u2069", "U+202C U+202E U+2066 U+2069"),
        ("left\u200eright\u200f", "U+200E U+200F"),
        ("a\ufe0fb", "U+FE0F"),
        (f"hi{tags('hi')}", "U+E0068 U+E0069"),
        (f"\U0001f3f4{tags('say no more')}", "U+E0020 U+E0065 U+E006D U+E006E U+E006F U+E0072"),
        (f"\u0645\u06cc{ZWNJ * 4}\u0634", "U+200C"),
        ("a\u3164b\u2062c\ufffed", "U+2062 U+3164 U+FFFE"),
    ],
)
def test_other_uses_are_named(text: str, found: str) -> None:
    assert " ".join(hidden_characters(text)) == found


@pytest.mark.parametrize(
    "text", ["", " \n\t", ZWSP, "\ufeff \u00ad", "\x1b\x08", "\u2800", "\u3164", tags("hi"), "\u00a0"]
)
def test_a_text_without_anything_to_see_is_blank(text: str) -> None:
    assert is_blank(text) and not is_blank(f"{text}.")


@pytest.mark.parametrize(
    ("written", "command"),
    [
        (r"$\frac{3}{4}$ of all", r"\frac"),
        (r"$5 \times 100$", r"\times"),
        (r"By $\beta$-amylase", r"\beta"),
        (r"$\rho$", r"\rho"),
        (r"\nabla has none", r"\nabla"),
        (r"$E = h\nu$", r"\nu"),
        (r"$\nu$", r"\nu"),
        (r"$A \to$", r"\to"),
        (r"x \neq y", r"\neq"),
        (r"\textbf{x}", r"\textbf"),
        (r"\theta_1", r"\theta"),
        (r"$x_\tau^2$", r"\tau"),
        (r"$\\frac{8}{2}$", None),
        (r"first\nsecond\n\tthird", None),
        (r"\ni think it costs $5", None),
        (r"cell\tan apple\tto go", None),
        (r"if x:\n\traise_it()\r\nelse", None),
    ],
)
def test_a_command_whose_backslash_json_took_is_named(written: str, command: str | None) -> None:
    assert broken_command(json.loads(f'"{written}"')) == command


@given(st.text())
def test_every_text_can_be_looked_at(text: str) -> None:
    assert isinstance(hidden_characters(text), list) and is_blank(text) in (True, False)
    assert broken_command(text) is None or str(broken_command(text)).startswith("\\")
