"""Text of a model, a document or a template as people may safely see it, and where two texts differ in words."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

MOST_SHOWN = 3_000
"""Characters of one text; comparing takes time with the square of its words."""
TOKEN = re.compile(r"\s+|\w+|[^\w\s]")
DIRECTION_MARKS = {*map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2066, 0x206A)), "\u061c", "\u200e", "\u200f"}
"""They make a text look other than it is (CVE-2021-42574)."""
ALIKE = 0.4
"""Share of words in common below which marking them helps nobody."""


def visible(text: str) -> str:
    """The text with what a terminal or a browser would obey, or could not encode, spelled out: ``\\x1b``, ``\\u202e``.

    Line ends and tabs stay.
    """
    return "".join(_spelled(char) if _acts(char) else char for char in text.replace("\r\n", "\n"))


def shortened(text: str, most: int = MOST_SHOWN) -> str:
    """The beginning of a text, with a note of how much is left out."""
    return text if len(text) <= most else f"{text[:most]} [... {len(text) - most:,} more characters]"


def _acts(char: str) -> bool:
    return char in DIRECTION_MARKS or (char not in "\n\t" and unicodedata.category(char) in ("Cc", "Cs"))


def _spelled(char: str) -> str:
    return f"\\x{ord(char):02x}" if ord(char) < 0x100 else f"\\u{ord(char):04x}"


@dataclass(frozen=True)
class Piece:
    """A run of text that both have, or only one of them."""

    kind: Literal["same", "removed", "added"]
    text: str


def word_changes(before: str, after: str) -> tuple[list[Piece], list[Piece]]:
    """Both texts in pieces, word by word: what only the first has is removed, what only the second has is added.

    Texts with little in common come back whole.
    """
    old, new = TOKEN.findall(before), TOKEN.findall(after)
    changes = difflib.SequenceMatcher(str.isspace, old, new, autojunk=False).get_opcodes()
    if _words_in_common(old, new, changes) < ALIKE:
        return [Piece("same", before)], [Piece("same", after)]
    left: list[Piece] = []
    right: list[Piece] = []
    for tag, old_from, old_to, new_from, new_to in changes:
        gone, come = "".join(old[old_from:old_to]), "".join(new[new_from:new_to])
        if tag == "equal":
            left.append(Piece("same", gone))
            right.append(Piece("same", come))
        else:
            left += [Piece("removed", gone)] if gone else []
            right += [Piece("added", come)] if come else []
    return left, right


def _words_in_common(old: list[str], new: list[str], changes: Sequence[tuple[str, int, int, int, int]]) -> float:
    """Twice the shared tokens over all, white space left out: 1 for two texts of the same words."""
    shared = sum(_count(old[start:end]) for tag, start, end, _, _ in changes if tag == "equal")
    whole = _count(old) + _count(new)
    return 2 * shared / whole if whole else 1.0


def _count(tokens: list[str]) -> int:
    return sum(not token.isspace() for token in tokens)
