"""One spelling for each id, however a source stores it.

A null that joins a column of whole numbers turns 17 into 17.0 in pandas, and in every file that pandas writes;
databases and drivers spell numbers, booleans and times in ways of their own. A document keeps its id, and its side of
the holdout, whatever stores it.
"""

from __future__ import annotations

import datetime
import re
import unicodedata
import uuid
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

WHOLE = re.compile(r"-?(?:0|[1-9]\d*)", re.ASCII)
"""A whole number as integers are written: 007 is a text."""
WITH_POINT = re.compile(rf"({WHOLE.pattern})(\.0+)", re.ASCII)
WITH_EXPONENT = re.compile(r"-?\d(?:\.\d+)?e\+\d{1,3}", re.ASCII | re.IGNORECASE)
MOMENT = re.compile(
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|[+-]\d\d(?::?\d\d)?)?", re.ASCII
)  # fmt: skip
DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
MIDNIGHT = "T00:00:00"
BOOLEANS = ("true", "false")
MOST_EXACT = 2**53
"""From here on, neighbouring whole numbers are one and the same double."""
MOST_DECIMALS = 6
"""Zeros behind the point that columns of decimals commonly write."""
TOKEN = re.compile(r"\d+|[^\W\d_]+")
THOUSANDS = re.compile(r"-?\d{1,3}(?:,\d{3})+(?:\.0+)?", re.ASCII)
MOST_DIGITS = 28
"""Digits that Python's decimals keep."""


class LostDigits(ValueError):
    """A number was stored in a way that does not keep all its digits, so it identifies nothing."""


def spelled(value: Any) -> str:
    """The id as text: whole numbers without a point or an exponent, times as ISO 8601, booleans in lower case.

    Other text stays as it is, without white space around it. Raises LostDigits if a whole number is beyond what a
    double holds exactly, or is rounded as spreadsheets show it (1.23457E+11).
    """
    if isinstance(value, float):
        return _exact(Decimal(value), repr(value)) if value.is_integer() else repr(value)
    text = str(value).strip()
    if found := WITH_POINT.fullmatch(text):
        return _exact(Decimal(found[1]), text) if found[2] == ".0" else str(int(found[1]))
    if WITH_EXPONENT.fullmatch(text) and (number := Decimal(text)) == number.to_integral_value():
        if "E" in text:
            raise LostDigits(text)
        return _exact(number, text)
    if text.lower() in BOOLEANS:
        return text.lower()
    return _moment(text) if MOMENT.fullmatch(text) else text


def is_same(one: Any, other: Any) -> bool:
    """Whether two values are one id, label or category in two spellings."""
    try:
        return spelled(one) == spelled(other)
    except LostDigits:
        return False


def with_whole_numbers(values: Mapping[str, Any]) -> dict[str, Any]:
    """A row whose whole numbers are integers, as they are where no null has joined their column."""
    return {name: int(value) if _is_whole(value) else value for name, value in values.items()}


def _is_whole(value: Any) -> bool:
    return isinstance(value, float) and value.is_integer() and abs(value) < MOST_EXACT


def _exact(number: Decimal, text: str) -> str:
    if abs(number) >= MOST_EXACT:
        raise LostDigits(text)
    return str(int(number))


def _moment(text: str) -> str:
    try:
        return datetime.datetime.fromisoformat(text).isoformat().removesuffix(MIDNIGHT)
    except ValueError:
        return text


def respelled(name: str) -> dict[str, str]:
    """The ways to write an id that has one spelling only in :func:`spelled`: by style, the text; empty for others."""
    if WHOLE.fullmatch(name):
        return {f"1{end}": name + end for end in ("", *("." + "0" * zeros for zeros in range(1, MOST_DECIMALS + 1)))}
    if name in BOOLEANS:
        return {style: getattr(name, style)() for style in ("lower", "capitalize", "upper")}
    if DATE.fullmatch(name):
        return {"date": name, "date T": name + MIDNIGHT, "date space": name + MIDNIGHT.replace("T", " ")}
    if MOMENT.fullmatch(name):
        spaced = name.replace("T", " ")
        short = re.sub(r"([+-]\d\d):00$", r"\1", re.sub(r"(\.\d+?)0+(?!\d)", r"\1", spaced))
        return {"T": name, "space": spaced, "short": short, "Z": re.sub(r"\+00:00$", "Z", name)}
    return {}


def likeness(name: str) -> str:
    """Equal for ids that could be one id in other spellings.

    They differ in case, width, white space, punctuation, leading zeros, or in the notation of a number or a UUID.
    """
    text = unicodedata.normalize("NFKC", name).casefold().strip()
    if THOUSANDS.fullmatch(text):
        text = text.replace(",", "")
    try:
        if len(text) <= MOST_DIGITS and (number := Decimal(text)).is_finite():
            return str(number.normalize())
    except InvalidOperation:
        pass
    try:
        return uuid.UUID(text).hex
    except ValueError:
        return "-".join(token.lstrip("0") or "0" for token in TOKEN.findall(text)) or text
