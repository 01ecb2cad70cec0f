"""The checks for what models write instead of an answer: refusals, boilerplate, mentions of the prompt.

Each searches for the regular expressions in ``phrases.yaml``, in several languages, and for the contract's own phrases.
RE2 searches in time linear in the text. In 23,700 requests of people (CLINC150) the checks find 2, 1 and 0; in 9,558
messages and paragraphs in 30 languages (Django's translations, the Declaration of Human Rights) none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pyarrow as pa
import pyarrow.compute as pc
import yaml
from pydantic import Field

from tasks.validate.contracts.expectations.own import Arguments, Mask, RowCheck, search

if TYPE_CHECKING:
    import pandas as pd

BOOKS = Path(__file__).with_name("phrases.yaml")
HEAD = 300  # characters in which a refusal begins: later it is a remark in an answer


class Phrases(Arguments):
    """Phrases to search for in addition to the known ones: plain text, in any case, anywhere in a text."""

    phrases: Sequence[Annotated[str, Field(min_length=1, pattern=r"\S")]] = ()


def is_refusal(values: pd.Series[Any], arguments: Phrases) -> Mask:
    """Texts that begin with a refusal: "I'm sorry, but I can't assist with that", "As an AI, I do not have ...".

    In 18 languages; in texts of other languages only the added phrases are found. False for other values than strings.
    """
    known = "|".join(known_phrases()["refusals"])
    found = search(values, lambda texts: _matches(pc.utf8_slice_codeunits(texts, 0, HEAD), known))
    return found | _holds(values, _added(arguments)) if arguments.phrases else found


def holds_boilerplate(values: pd.Series[Any], arguments: Phrases) -> Mask:
    """Texts with padding around an answer: "Sure! Here is a message:", "As an AI language model", "I hope this helps",
    placeholders such as ``[Your Name]`` and ``{{ name }}``, lorem ipsum. False for other values than strings.
    """
    return _holds(values, [*known_phrases()["boilerplate"], *_added(arguments)])


def mentions_prompt(values: pd.Series[Any], arguments: Phrases) -> Mask:
    """Texts that mention what their writer was shown: "the passage above", "based on the given text".

    False for other values than strings.
    """
    return _holds(values, [*known_phrases()["prompt_mentions"], *_added(arguments)])


def refusals(texts: Iterable[str | None]) -> Mask:
    import pandas as pd

    return is_refusal(pd.Series(list(texts), dtype=object), Phrases())


@cache
def known_phrases() -> dict[str, tuple[str, ...]]:
    books = yaml.safe_load(BOOKS.read_text(encoding="utf-8"))
    parts = {name: part.strip() for name, part in books.pop("parts").items()}
    return {
        kind: tuple(
            re.sub(r"<<(\w+)>>", lambda part: parts[part[1]], line)
            for lines in by_language.values()
            for line in lines.splitlines()
        )
        for kind, by_language in books.items()
    }


def _added(arguments: Phrases) -> list[str]:
    """A contract's phrases as regular expressions, in which a space matches any white space."""
    return [r"\s+".join(map(re.escape, phrase.split())) for phrase in arguments.phrases]


def _holds(values: pd.Series[Any], expressions: Sequence[str]) -> Mask:
    return search(values, lambda texts: _matches(texts, "|".join(expressions)))


def _matches(texts: pa.Array, expression: str) -> pa.Array:
    return pc.match_substring_regex(texts, expression, ignore_case=True)


def _sentence(what: str) -> Callable[[Phrases], str]:
    def sentence(arguments: Phrases) -> str:
        more = f", nor say: {'; '.join(arguments.phrases)}" if arguments.phrases else ""
        return f"values must not {what}{more}"

    return sentence


CHECKS = (
    RowCheck("expect_column_values_to_not_be_refusals", Phrases, is_refusal, _sentence("be refusals")),
    RowCheck(
        "expect_column_values_to_not_hold_boilerplate",
        Phrases,
        holds_boilerplate,
        _sentence("hold boilerplate (openings, closings, unfilled places, lorem ipsum)"),
    ),
    RowCheck(
        "expect_column_values_to_not_mention_the_prompt",
        Phrases,
        mentions_prompt,
        _sentence("speak of the prompt or of a text that the reader does not see"),
    ),
)
