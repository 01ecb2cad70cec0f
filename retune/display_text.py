"""Make text of models, documents and templates safe to show, and find the words in which two texts differ."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tasks.core.characters import hidden_characters

MOST_SHOWN = 3_000
"""Characters of one text; comparing takes time with the square of its words."""
TOKEN = re.compile(r"\s+|\w+|[^\w\s]")
DIRECTION_MARKS = {*map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2066, 0x206A)), "\u061c", "\u200e", "\u200f"}
"""They hide what a text really contains (CVE-2021-42574)."""
ALIKE = 0.4
"""Below this share of common words, marking the differences does not help."""


def visible(text: str) -> str:
    """The text with control codes, direction marks, surrogates and hidden characters spelled out: ``\\x1b``.

    Line ends and tabs stay.
    """
    hidden = {chr(int(name.removeprefix("U+"), 16)) for name in hidden_characters(text)}
    text = text.replace("\r\n", "\n")
    return "".join(_spelled(char) if char in hidden or _acts(char) else char for char in text)


def shortened(text: str, most: int = MOST_SHOWN) -> str:
    """The beginning of a text, with how many characters are left out."""
    return text if len(text) <= most else f"{text[:most]} [... {len(text) - most:,} more characters]"


def _acts(char: str) -> bool:
    return char in DIRECTION_MARKS or (char not in "\n\t" and unicodedata.category(char) in ("Cc", "Cs"))


def _spelled(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


@dataclass(frozen=True)
class Piece:
    """Text that both texts have, or only one."""

    kind: Literal["same", "removed", "added"]
    text: str


def word_changes(before: str, after: str) -> tuple[list[Piece], list[Piece]]:
    """Both texts in pieces, with the words that were removed and added; texts with little in common in one piece."""
    old, new = TOKEN.findall(before), TOKEN.findall(after)
    changes = difflib.SequenceMatcher(str.isspace, old, new, autojunk=False).get_opcodes()
    if _words_in_common(old, new, changes) < ALIKE:
        return [Piece("same", before)], [Piece("same", after)]
    left: list[Piece] = []
    right: list[Piece] = []
    for tag, old_from, old_to, new_from, new_to in changes:
        removed, added = "".join(old[old_from:old_to]), "".join(new[new_from:new_to])
        if tag == "equal":
            left.append(Piece("same", removed))
            right.append(Piece("same", added))
        else:
            left += [Piece("removed", removed)] if removed else []
            right += [Piece("added", added)] if added else []
    return left, right


def _words_in_common(old: list[str], new: list[str], changes: Sequence[tuple[str, int, int, int, int]]) -> float:
    shared = sum(_count(old[start:end]) for tag, start, end, _, _ in changes if tag == "equal")
    whole = _count(old) + _count(new)
    return 2 * shared / whole if whole else 1.0


def _count(tokens: list[str]) -> int:
    return sum(not token.isspace() for token in tokens)
