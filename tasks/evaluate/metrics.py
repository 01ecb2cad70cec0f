"""Metrics: the score of one answer against its reference, from 0 to 1."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable

import regex

ARTICLES = {"a", "an", "the"}
UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}ー"
"""Scripts without spaces between words: each of their characters counts as a word, with the marks on it."""
SYMBOL = r"\p{S}#%&@*/\\"
LETTER = rf"(?:(?![{UNSPACED}])[\p{{L}}\p{{M}}\p{{N}}])"
WORD = regex.compile(
    rf"[{UNSPACED}]\p{{M}}*|[{SYMBOL}]|(?<![\p{{L}}\p{{M}}])-(?=\s*\p{{N}})"
    rf"|{LETTER}(?:{LETTER}|(?!(?<=\p{{N}})-\p{{N}})[^\P{{P}}{SYMBOL}]+(?={LETTER}))*"
)
PUNCTUATION = regex.compile(r"(?<!\p{N})\p{P}|\p{P}(?!\p{N})|,(?=\p{N}{3}(?!\p{N}))")
"""In a word; a decimal point stays."""


def accuracy(answer: str, reference: str) -> float:
    """1 if the whole answer equals the reference, ignoring case and outer white space; else 0."""
    return float(answer.strip().casefold() == reference.strip().casefold())


def token_f1(answer: str, reference: str) -> float:
    """Harmonic mean of the precision and recall of words: the F1 of SQuAD (Rajpurkar et al. 2016, arXiv 1606.05250).

    As in SQuAD's evaluation script, case, punctuation and English articles do not count. As in MLQA's (Lewis et al.
    2020, arXiv 1910.07475), a character of a script without spaces is a word, and punctuation is Unicode's. Other than
    in both, symbols and signs are words, a decimal point stays, and an answer of articles or punctuation only keeps
    them: "C++" is not "C", 1.5 is not 15, the option "A" is not "B", and nothing but an empty answer is empty.
    """
    given, wanted = _words(answer), _words(reference)
    if not given or not wanted:
        return float(given == wanted)
    shared = (Counter(given) & Counter(wanted)).total()
    return 2 * shared / (len(given) + len(wanted))


def _words(text: str) -> list[str]:
    plain = unicodedata.normalize("NFC", "".join(map(_in_plain_width, text))).casefold()
    found = [PUNCTUATION.sub("", word) or word for word in WORD.findall(plain)]
    return [word for word in found if word not in ARTICLES] or found or plain.split()


def _in_plain_width(char: str) -> str:
    """A full-width or half-width form as the usual character, and a minus sign or dash as a hyphen."""
    if unicodedata.category(char) == "Pd" or char == "\N{MINUS SIGN}":
        return "-"
    is_width = unicodedata.decomposition(char).startswith(("<wide>", "<narrow>"))
    return unicodedata.normalize("NFKC", char) if is_width else char


METRICS: dict[str, Callable[[str, str], float]] = {"accuracy": accuracy, "token_f1": token_f1}
