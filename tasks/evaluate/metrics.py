"""Metrics: the score of one answer against its reference, from 0 to 1."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)


def accuracy(answer: str, reference: str) -> float:
    """1 if the whole answer equals the reference, ignoring case and outer white space; else 0."""
    return float(answer.strip().casefold() == reference.strip().casefold())


def token_f1(answer: str, reference: str) -> float:
    """Harmonic mean of the precision and recall of words: the F1 of SQuAD (Rajpurkar et al. 2016, arXiv 1606.05250)."""
    given, wanted = _words(answer), _words(reference)
    if not given or not wanted:
        return float(given == wanted)
    shared = (Counter(given) & Counter(wanted)).total()
    return 2 * shared / (len(given) + len(wanted))


def _words(text: str) -> list[str]:
    """Lower-case words without punctuation and English articles, as in SQuAD's evaluation script."""
    return ARTICLES.sub(" ", text.casefold().translate(PUNCTUATION)).split()


METRICS: dict[str, Callable[[str, str], float]] = {"accuracy": accuracy, "token_f1": token_f1}
