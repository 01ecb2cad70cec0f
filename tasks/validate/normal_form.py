"""Bring texts to a normal form that keeps what carries meaning, and find what in it has to be equal in copies.

Published tools fold more: text_collapse of ISCC drops all punctuation and accents, the document_deduplicator of
Data-Juicer can drop everything but letters. Long documents survive this, a question such as "is -5 < 3" does not.
"""

from __future__ import annotations

import unicodedata
from functools import cache, lru_cache

import pyarrow as pa
import pyarrow.compute as pc
import regex

from tasks.validate.similarity import UNSPACED, Texts, as_array, portions

BATCH = 10_000
"""Texts that are normalised at a time."""
KEPT_FORMS = ("<super>", "<sub>", "<fraction>")
"""Compatibility forms with a meaning of their own: x² is not x2, and 1½ is not 11/2."""
INVISIBLE = "\u00ad\u200b\u200e\u200f\u2060\ufe0e\ufe0f\ufeff"
SPACE, LINE = "\ue020", "\ue00a"
"""Private characters for white space inside code, so that a piece of code is one word."""
PROSE = r" \n\t\r,.!?'\";:"
SUSPECT = rf"[^A-Za-z{PROSE}]|\.[A-Za-z]|![A-Za-z]|(^|[^A-Za-z'])[A-Za-z]!|\n[ \t]|::"
"""RE2: a text without this is plain words and punctuation: Arrow finds its form without Python."""

OPERATOR = r"[=<>+*^|~\p{Sm}]"
OPERAND_BEFORE, OPERAND_AFTER = r"(?<=[\p{N})\]\p{Sc}]|\b\p{L})", r"(?=[\p{N}(\[.+\p{Sc}-]|\p{L}\b)"
GLUE = regex.compile(
    rf"(?<=\S)[ \t]+((?:{OPERATOR}|[!&%/:-](?={OPERATOR}|[&|]))*(?:{OPERATOR}|[&/]))[ \t]+(?=[^\s])"
    rf"|{OPERAND_BEFORE}[ \t]+([%-])[ \t]+{OPERAND_AFTER}"
)
"""White space around an operator between two operands carries no meaning."""
REGION = regex.compile(
    r"(```.*?(?:```|\Z)|`[^`\n]+`|(?<=\n)(?:[ ]{2}|\t)[^\n]*[^\s]"
    r"|(?<![\w.])[\p{L}_][\w.]{0,50}\([^()\n]*\)|(?<!\w)\w{0,50}\[[^\[\]\n]*\]|\{[^{}\n]*\})",
    regex.DOTALL,
)
"""Code that may have spaces in it, or that is indented."""
INNER_SPACE = regex.compile(r"(?<=\S)[ \t]+")
STRUCTURE = regex.compile(r"[`({\[*#]|\n[ \t]|\s[^\p{L}\p{N}\s]+\s")
"""What a text without operators, regions and Markdown has none of."""
CODE = regex.compile(
    rf"(^.*[\w)\]\"'](?:{OPERATOR}|-(?=>)|[!:](?==))+[\w(\[{{\"'.-](?:.*[^.,;:!?\"'])?"
    r"|^.*(?:[\p{N})]|\b\p{L})[-/%](?:[\p{N}(]|\p{L}\b)(?:.*[^.,;:!?\"'])?"
    rf"|^\w+://.*[^.,;:!?\"']|^--?\p{{L}}[\w-]*|^[.~]{{0,2}}/\w.*|^.*[\\{SPACE}{LINE}].*"
    r"|(?<!\w)\w*(?:[^\W_]_+[^\W_]|__)\w*|(?<![\w.])\p{L}\w*(?:(?:\.|::)[\p{L}_]\w+)+)"
)
"""Code without spaces, a formula, an option, a path or a name."""
LONGEST_CODE = 200
"""Characters; a longer word without white space is not searched for code."""
MARKDOWN = regex.compile(r"(?<![^\n])[ \t]*[*#]+(?=[ \t])|(?<![\w*])(\*{1,3})(?=[^\s*])([^*\n]*[^\s*])\1(?![\w*])")
"""Bullets, headings and emphasis."""
GAP = regex.compile(
    r"(?:(?![*/%&#@\\_{}\[\]\u2030\u2031\u2032-\u2034\u00a7-])(?!(?<!\p{L})\.\p{N}|^\.\p{L})(?!(?<=\p{N})[,:'\"]\p{N})"
    r"(?!(?<=\p{N}|(?<![\p{L}'])[b-hj-z])!(?!!)|^![\w(]|!=)\p{P}"
    r"|^-+$|(?<=[\p{L}\p{M}]{2}|[,.!?;:\"')])-+$"
    r"|(?<=[\p{L}\p{M}]{2})-+(?=[\p{L}\p{N}])|(?<=[\p{L}\p{M}\p{N}])-+(?=[\p{L}\p{M}]{2}))+"
)
"""The punctuation of prose in a word: not signs, decimal points, or what joins names and numbers."""
BORDER = regex.compile(
    rf"(?<=[{UNSPACED}])(?=[^\s{UNSPACED}\p{{P}}\p{{M}}\p{{Co}}])|(?<=[^\s{UNSPACED}\p{{P}}\p{{Co}}])(?=[{UNSPACED}])"
    r"|(?<=[\p{So}])(?=[^\s\p{So}\p{Sk}\p{M}\p{Co}\u200d])|(?<=[^\s\p{So}\p{Co}\u200d])(?=\p{So})"
)
"""Between a script without spaces, or an emoji, and its neighbour."""
LETTERS = r"\p{Ll}\p{Lo}\p{Lm}\p{M}"
"""What plain words of a normal form consist of."""


def normalise(text: str) -> str:
    """The normal form of one text; see :func:`normalise_texts`."""
    normalised: str = normalise_texts([text])[0].as_py()
    return normalised


def normalise_texts(texts: Texts) -> pa.LargeStringArray:
    """Every text without what carries no meaning, in the same order; words are divided by single spaces.

    Folded are white space, Unicode compatibility forms (but :data:`KEPT_FORMS`), kinds of dashes and quotes, invisible
    characters, emphasis in Markdown, the case of words, and the punctuation of prose. Kept are symbols, signs,
    operators, decimal points and other punctuation in numbers, brackets and case in code and formulas, the indentation
    of lines, accents. A text of punctuation only keeps it, so that "?" and "!" differ.
    """
    arrow = as_array(texts)
    batches = [_normalise(part) for _, part in portions(arrow, BATCH)]
    return pa.concat_arrays(batches) if batches else arrow


def marks(forms: pa.LargeStringArray) -> pa.LargeStringArray:
    """What has to be equal in copies: of each normal form, the words with more than letters in them, in order.

    Shingles are for the rest: one sign among a hundred characters hardly changes a similarity, and changes what is
    asked.
    """
    spread = pc.replace_substring(forms, " ", "  ")
    return pc.utf8_trim(pc.replace_substring_regex(spread, f"(^| )[{LETTERS}]+( |$)", ""), " ")


def unaccented(forms: pa.LargeStringArray) -> pa.LargeStringArray:
    """:func:`without_accents` of every normal form: where two are equal, the forms differ in nothing else."""
    foreign = pc.invert(pc.string_is_ascii(forms))
    bare = pa.array(map(without_accents, forms.filter(foreign).to_pylist()), pa.large_string())
    return pc.replace_with_mask(forms, foreign, bare)


def without_accents(form: str) -> str:
    """A normal form without accents and other marks on letters."""
    return "".join(char for char in unicodedata.normalize("NFD", form) if unicodedata.category(char)[0] != "M")


def _normalise(texts: pa.LargeStringArray) -> pa.LargeStringArray:
    plain = pc.utf8_trim(pc.replace_substring_regex(pc.ascii_lower(texts), rf"[{PROSE}]+", " "), " ")
    unsure = pc.or_(pc.match_substring_regex(texts, SUSPECT), pc.equal(plain, ""))
    return pc.replace_with_mask(
        plain, unsure, pa.array(map(_form, texts.filter(unsure).to_pylist()), pa.large_string())
    )


def _form(text: str) -> str:
    if not text.isascii():
        text = BORDER.sub(" ", unicodedata.normalize("NFC", text.translate(_folded_characters())))
    text = text.strip().replace("\r\n", "\n")
    if not STRUCTURE.search(text):
        return _words(text) or text
    pieces = REGION.split(GLUE.sub(r"\1\2", text))
    pieces[1::2] = map(_code, pieces[1::2])
    pieces[::2] = [_words(MARKDOWN.sub(r"\2", piece)) for piece in pieces[::2]]
    return " ".join(filter(None, pieces)) or text


def _words(text: str) -> str:
    return " ".join(" ".join(map(_word, text.split())).split())


def _code(text: str) -> str:
    """Code as one word; its lines keep their indentation."""
    spaced: str = INNER_SPACE.sub(SPACE, text)
    return spaced.replace("\n", LINE).replace("\t", SPACE * 4).replace(" ", SPACE)


@lru_cache(100_000)
def _word(word: str) -> str:
    """The form of what has white space around it: one word, several, or none."""
    pieces = CODE.split(word) if len(word) <= LONGEST_CODE else [word]
    pieces[::2] = [GAP.sub(" ", unicodedata.normalize("NFC", piece.casefold())) for piece in pieces[::2]]
    return " ".join(pieces)


@cache
def _folded_characters() -> dict[int, str]:
    """Characters that another way of writing stands for."""
    folded = dict.fromkeys(INVISIBLE, "") | dict.fromkeys("\u2018\u2019\u201b\u02bc", "'") | {"\u2212": "-"}
    for char in map(chr, range(0x80, 0x30000)):
        kind, _, _ = unicodedata.decomposition(char).partition(" ")
        if kind.startswith("<") and kind not in KEPT_FORMS:
            folded[char] = unicodedata.normalize("NFKC", char)
        elif unicodedata.category(char) == "Pd":
            folded[char] = "-"
    return str.maketrans(folded)
