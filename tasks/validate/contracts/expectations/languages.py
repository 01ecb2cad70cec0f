"""The check on languages, by py3langid, a maintained langid.py (Lui and Baldwin, 2012): small and offline."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, field_validator

from tasks.validate.contracts.expectations.own import WIDE_LETTERS, Arguments, Mask, RowCheck, text_batches

if TYPE_CHECKING:
    import pandas as pd
    from py3langid.langid import LanguageIdentifier

COMMON = (
    "ar", "bg", "bn", "cs", "da", "de", "el", "en", "es", "et", "fa", "fi", "fr", "he", "hi", "hr", "hu", "id", "it",
    "ja", "ko", "lt", "lv", "nl", "no", "pl", "pt", "ro", "ru", "sr", "sv", "sw", "ta", "te", "th", "tl", "tr", "uk",
    "ur", "vi", "zh",
)  # fmt: skip
"""The languages that the detector chooses from, in addition to those asked for.

With all 130 languages that it knows, short texts are taken for Bikol or Extremaduran: of 7,843 messages of 15 letters
and more in 30 languages (Django's translations) 92.4 % were recognised. With these languages it was 97.2 % of those
with 20 letters and more, and 99.8 % of 1,715 paragraphs (the Declaration of Human Rights). A text in another language
is taken for the nearest of these.
"""
UNKNOWN = "und"
HEAD = 100
"""Characters that the detector reads: on the texts above, 300 were no better."""
UNLIKELY = 0.1
"""Where all allowed languages together are less probable than this, the text is in another one.

Below it were 4 of 23,700 English requests (CLINC150), 7 of 999 English answers (Alpaca's demo: three Spanish or French
ones, and lists, tables and code), and nearly all of the texts above that are not English.
"""
MINIMUM_LETTERS = 20
NO_LETTERS = r"[^\pL\pM]+"
NO_WIDE_LETTERS = WIDE_LETTERS.replace("[", "[^", 1) + "+"


class Languages(Arguments):
    """The languages that texts may be in, as ISO 639-1 codes."""

    languages: Sequence[str] = Field(min_length=1)
    minimum_letters: int = Field(
        MINIMUM_LETTERS, ge=0, description="a text with fewer is not checked; a Chinese character counts as three"
    )

    @field_validator("languages")
    @classmethod
    def _are_known(cls, languages: Sequence[str]) -> Sequence[str]:
        known = COMMON if set(languages) <= set(COMMON) else known_languages()  # the others need the model
        if unknown := [code for code in languages if code not in known]:
            raise ValueError(
                f"the detector does not know the language {unknown[0]!r}; it knows {', '.join(sorted(known))}"
            )
        return languages


def is_in_another_language(values: pd.Series[Any], arguments: Languages) -> Mask:
    """Texts in none of the languages: the detector finds all of them together unlikely.

    Values that are not strings, or have fewer than ``minimum_letters`` letters, are not checked. This is the slowest
    check: about 15,000 rows a second, so a minute for a million.
    """
    allowed = frozenset(arguments.languages)
    detector = _detector(allowed)
    found = [np.zeros(0, bool)]
    for texts in text_batches(values):
        judged = pc.greater_equal(_letters(texts), arguments.minimum_letters).to_numpy(zero_copy_only=False)
        heads = _heads(texts)
        judged[judged] = [_is_unlikely(detector, heads[int(at)].as_py(), allowed) for at in np.flatnonzero(judged)]
        found.append(judged)
    return np.concatenate(found)


def detect_languages(texts: Iterable[str | None]) -> list[str]:
    """The most probable language of each text, from :data:`COMMON`; ``und`` where it has too few letters."""
    import pandas as pd

    detector = _detector(frozenset())
    languages: list[str] = []
    for batch in text_batches(pd.Series(list(texts), dtype=object)):
        judged = pc.greater_equal(_letters(batch), MINIMUM_LETTERS).to_pylist()
        heads = zip(_heads(batch).to_pylist(), judged, strict=True)
        languages += [detector.classify(head)[0] if enough else UNKNOWN for head, enough in heads]
    return languages


@cache
def known_languages() -> frozenset[str]:
    return frozenset(_whole_detector().labels)


def _is_unlikely(detector: LanguageIdentifier, text: str, allowed: frozenset[str]) -> bool:
    if detector.classify(text)[0] in allowed:
        return False
    probability: float = sum(share for language, share in detector.rank(text) if language in allowed)
    return probability < UNLIKELY


def _heads(texts: pa.Array) -> pa.Array:
    return pc.utf8_slice_codeunits(texts, 0, HEAD)


def _letters(texts: pa.Array) -> pa.Array:
    letters, wide = (pc.utf8_length(pc.replace_substring_regex(texts, no, "")) for no in (NO_LETTERS, NO_WIDE_LETTERS))
    return pc.add(letters, pc.multiply(wide, 2))


@lru_cache(maxsize=8)
def _detector(languages: frozenset[str]) -> LanguageIdentifier:
    detector = copy(_whole_detector())
    detector.set_languages({*COMMON, *languages})
    return detector


@cache
def _whole_detector() -> LanguageIdentifier:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def _sentence(given: Languages) -> str:
    return f"values must be in {' or '.join(given.languages)} (texts of at least {given.minimum_letters} letters)"


CHECKS = (RowCheck("expect_column_values_to_be_in_language", Languages, is_in_another_language, _sentence),)
