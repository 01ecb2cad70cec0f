r"""Characters that no reader sees, and LaTeX commands whose backslash became part of one.

Invisible are control characters and Unicode's default-ignorable code points (UAX #44). Their ordinary uses are fit: tab
and newline; joiners in emoji and in scripts that need them; zero-width spaces in scripts without spaces between words;
direction marks in texts with letters from right to left; variation selectors after characters that have variants.
"""

from __future__ import annotations

import functools
import re
from typing import Any

JOINING = "".join(
    rf"\p{{{script}}}"
    for script in (
        "Arabic", "Syriac", "Mandaic", "Nko", "Mongolian", "Devanagari", "Bengali", "Gurmukhi", "Gujarati", "Oriya",
        "Tamil", "Telugu", "Kannada", "Malayalam", "Sinhala", "Khmer", "Myanmar", "Tibetan",
    )
)  # fmt: skip
SPACELESS = r"\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}"
EMOJI = r"[\p{Extended_Pictographic}\p{Emoji_Modifier}\uFE0F\U000E007F]"
_HIDDEN = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufdd0-\ufdef\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
HIDDEN = re.compile(f"[{_HIDDEN}]")
"""Control characters but tab and newline, default-ignorable code points, and noncharacters of the first plane."""
VISIBLE = re.compile(rf"[^\s\u2800{_HIDDEN}]")
ORDINARY = rf"""
    \r(?=\n)
    | (?<={EMOJI})\u200D(?=\p{{Extended_Pictographic}})
    | (?<=[{JOINING}])[\u200C\u200D] | [\u200C\u200D](?=[{JOINING}])
    | (?<=[{SPACELESS}])\u200B | \u200B(?=[{SPACELESS}])
    | (?<=\p{{Mongolian}})[\u180B-\u180F]
    | (?<=[\p{{Emoji}}\p{{S}}\p{{P}}\p{{Han}}\p{{Hiragana}}\p{{Katakana}}\p{{Myanmar}}\p{{Phags_Pa}}])[\uFE00-\uFE0F]
    | (?<=\p{{Han}})[\U000E0100-\U000E01EF]
    | (?<=\U0001F3F4[\U000E0030-\U000E007A]{{0,6}})[\U000E0030-\U000E007F]   # flags of regions
    """
"""The hidden characters in ordinary use, each in its context."""
DIRECTION_MARKS = "\u061c\u200e\u200f"
RIGHT_TO_LEFT = r"[[\p{Bidi_Class=R}\p{Bidi_Class=AL}]&&\p{L}]"

# What is left of a command after \b, \f, \n, \r or \t, which JSON reads as one control character.
COMMANDS = {
    "\b": "ecause egin eta eth ar f ig igcap igcup igg igl igr inom mod oldsymbol ot owtie ox oxed reve ullet",
    "\f": "box lat ootnote orall rac rown",
    "\n": "abla atural cong earrow eg eq ewcommand ewline geq gtr icefrac leq oindent onumber ot otin parallel "
    "rightarrow subseteq warrow",
    "\r": "aise angle brace ceil ef enewcommand floor ho ight ightarrow ightleftharpoons m oot ule vert",
    "\t": "abular ag anh binom ext extbf extit extrm extsf extstyle exttt frac herefore heta hickapprox hinspace ilde "
    "imes iny itle riangle riangleleft riangleq",
}
WORDS = {"\n": "e exists i less mid sim u", "\t": "able an au o op"}
"""Words and names of variables, which may begin a line or a cell: commands only next to ``$``, ``^`` or ``_``."""
CONTROL_BEFORE_LETTER = "[\x08\x0c\n\r\t][a-z]"


def _any_of(commands: dict[str, str]) -> str:
    rests = (f"{re.escape(control)}(?:{rest.replace(' ', '|')})" for control, rest in commands.items())
    return rf"(?:{'|'.join(rests)})(?![A-Za-z])"


_BROKEN = re.compile(rf"{_any_of(COMMANDS)}|(?<=\$){_any_of(WORDS)}|{_any_of(WORDS)}(?=[$^_])")


def hidden_characters(text: str) -> list[str]:
    """The invisible characters that are not in ordinary use, such as ``U+200B``, each once."""
    places = [found.start() for found in HIDDEN.finditer(text)]
    if not places:
        return []
    fit = DIRECTION_MARKS if _unicode(RIGHT_TO_LEFT).search(text) else ""
    ordinary = _unicode(ORDINARY)
    unfit = {text[at] for at in places if text[at] not in fit and not ordinary.match(text, at)}
    return [f"U+{ord(character):04X}" for character in sorted(unfit)]


def broken_command(text: str) -> str | None:
    r"""The first LaTeX command whose backslash was read as an escape of JSON: ``\frac`` as form feed and ``rac``."""
    for control in re.finditer(CONTROL_BEFORE_LETTER, text):
        if found := _BROKEN.match(text, control.start()):
            return repr(found[0])[1:-1].replace(r"\x08", r"\b").replace(r"\x0c", r"\f")
    return None


def is_blank(text: str) -> bool:
    """Whether a text has nothing to see: it is empty, or white space and invisible characters."""
    return not VISIBLE.search(text)


@functools.cache
def _unicode(pattern: str) -> Any:
    """A pattern with properties of Unicode, compiled at its first use: that takes a tenth of a second."""
    import regex

    return regex.compile(pattern, regex.V1 | regex.VERBOSE)
