"""Keys that change what a row or a turn means: preferences, pictures and sound, and weights.

The names are those of TRL, LLaMA-Factory (``kto_tag``), OpenAI's fine-tuning (``weight``, ``preferred_output``),
axolotl (``train``, ``train_detail``), ms-swift (``loss``, ``loss_scale``) and public preference data.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from tasks.collect.config import VERDICTS
from tasks.collect.forms.values import shown
from tasks.collect.records import Rejected
from tasks.core.content import MEDIA, says_nothing

TRUTHS = ("true", "false", "0", "1")
WORSE = re.compile(
    r"(\w+_)?(rejected|dispreferred|non_preferred)(_(answer|completion|content|conversations?|messages|output|response|text))?"
)
BETTER = re.compile(r"(\w+_)?(chosen|preferred)(_\w+)?")
COMPARED = {
    f"{stem}{first}": f"{stem}{second}"
    for stem in ("response", "response_", "completion_", "conversation_")
    for first, second in (("a", "b"), ("0", "1"), ("1", "2"))
}
CANDIDATES = ("completions", "responses", "generations", "candidates", "outputs", "answers")
RATINGS = ("labels", "ranking", "ranks", "ratings", "scores", "rewards")
TURN_WEIGHTS = (
    "weight", "loss_weight", "loss", "loss_mask", "loss_scale", "train", "training", "train_on_turn", "trainable",
)  # fmt: skip
PARTIAL_WEIGHTS = ("train_detail", "training_detail")
LEARNED_TURN = frozenset({*TURN_WEIGHTS, *PARTIAL_WEIGHTS})
"""Keys that say whether a turn is learned."""
ROW_WEIGHTS = ("weight", "loss_weight", "train")


def refuse_preference(values: Mapping[str, Any], read: Collection[str], is_table: bool = False) -> None:
    """Refuse preference data: answers to be avoided, or compared.

    ``read``: columns that the recipe names; they mean what the recipe says. ``is_table``: the columns are mapped, so
    that only a verdict beside them can be preference data.
    """
    there = {key: value for key, value in values.items() if key not in read and not says_nothing(value)}
    if key := next((key for key in VERDICTS if key in there and _is_verdict(key, there[key], is_table)), None):
        raise Rejected(
            f"preference: {key!r} says whether the answer is wanted; name it in the source's where to keep wanted rows"
        )
    if is_table:
        return
    worse = [key for key, value in there.items() if WORSE.fullmatch(key) and not _is_false(value)]
    if worse and any(map(BETTER.fullmatch, read)):
        worse = []
    stated: list[str] = [key for key in ("preference", "preferences") if key in there]
    compared = [[key, COMPARED[key]] for key in there if COMPARED.get(key) in there]
    lists = [key for key, value in there.items() if isinstance(value, list) and len(value) > 1]
    rated = [[some, by] for some in lists if some in CANDIDATES for by in lists if by in RATINGS]
    signs: list[list[str]] = [worse, stated, *compared, *rated]
    if found := next(filter(None, signs), None):
        names = " and ".join(map(repr, found))
        raise Rejected(f"preference: {names} hold answers to be avoided or compared; keep one column as the answer")


def refuse_media(values: Mapping[str, Any], where: str, read: Collection[str] = ()) -> None:
    """Refuse a row or a turn with pictures, sound or files next to its text."""
    key = next((key for key in values if key in MEDIA and key not in read and not says_nothing(values[key])), None)
    if key:
        place = f"{where}.{key}" if where else key
        raise Rejected(f"media: {place!r} comes with the text: only text is supported")


def refuse_columns(values: Mapping[str, Any]) -> None:
    """Refuse a row whose mapped values are columns of a table: each with row numbers, or several of one length."""
    numbered = [name for name, value in values.items() if isinstance(value, Mapping) and _is_numbered(value)]
    lengths = [len(value) if isinstance(value, list) else 0 for value in values.values()]
    if numbered or (len(lengths) > 1 and lengths[0] > 1 and len(set(lengths)) == 1):
        names = " and ".join(map(repr, numbered or values))
        raise Rejected(f"type: columns of a table instead of one row's values: {names}; write the table by row")


def refuse_weight(values: Mapping[str, Any], read: Collection[str]) -> None:
    """Refuse a row that is not to be learned, or only in part."""
    for key in ROW_WEIGHTS:
        value = values.get(key)
        if key in read or not isinstance(value, int | float) or says_nothing(value):
            continue
        if not _learns(value, key):
            raise Rejected(f"weight: {key!r} is {value}: the row is not to be learned")


def is_left_unlearned(turn: Mapping[str, Any], place: str) -> bool | None:
    """Whether a turn's own keys exclude it from learning; None: it has no such key."""
    if LEARNED_TURN.isdisjoint(turn):
        return None
    if part := next((key for key in PARTIAL_WEIGHTS if not says_nothing(turn.get(key))), None):
        raise Rejected(f"weight: '{place}.{part}' weighs parts of a turn, which is not supported")
    found = {key: _learns(turn[key], f"{place}.{key}") for key in TURN_WEIGHTS if not says_nothing(turn.get(key))}
    if len(set(found.values())) > 1:
        raise Rejected(f"weight: {place!r} has keys that contradict each other: {', '.join(found)}")
    return not next(iter(found.values())) if found else None


def _learns(value: Any, where: str) -> bool:
    if value not in (0, 1):  # True and False are equal to these
        written = value if isinstance(value, float | int) else shown(value)
        raise Rejected(f"weight: {where!r} is {written}: only 0 and 1 (false and true) are supported")
    return bool(value)


def _is_verdict(key: str, value: Any, is_table: bool) -> bool:
    """Whether a value says yes or no; a number in a table is rather the number of a class."""
    if key != "label":
        return True
    truths = TRUTHS[:2] if is_table else TRUTHS
    return isinstance(value, bool) or str(value).strip().lower().removesuffix(".0") in truths


def _is_false(value: Any) -> bool:
    """Whether a value denies, or only scores; True, and any text or structure, does not."""
    return value is not True and (isinstance(value, int | float) or str(value).strip().lower() in ("false", "no"))


def _is_numbered(value: Mapping[str, Any]) -> bool:
    return bool(value) and all(key.isdecimal() for key in value)
