"""One spelling for an id, and ids that could be one."""

from __future__ import annotations

import datetime
import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.collect.identity import LostDigits, likeness, respelled, spelled


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("17", [17, 17.0, "17", " 17 ", "17.0", "17.00", Decimal("17.000"), "1.7e+01"]),
        ("0", [0, 0.0, -0.0, "0.0", "-0.0"]),
        ("-3", [-3, -3.0, "-3.0"]),
        ("9007199254740993", [2**53 + 1, str(2**53 + 1), Decimal(2**53 + 1), f"{2**53 + 1}.00"]),
        ("100000", [100_000, 1e5, "1e+05"]),
        ("2.5", [2.5, "2.5"]),
        ("true", [True, "True", "TRUE", "true"]),
        ("2026-03-04", [datetime.date(2026, 3, 4), "2026-03-04 00:00:00", "2026-03-04T00:00:00.000"]),
        ("2026-03-04T05:06:07", [datetime.datetime(2026, 3, 4, 5, 6, 7), "2026-03-04T05:06:07.000000"]),
        ("2026-03-04T05:06:07+00:00", ["2026-03-04 05:06:07+00", "2026-03-04T05:06:07Z"]),
    ],
)
def test_an_id_has_one_spelling_however_it_is_stored(name: str, stored: list[Any]) -> None:
    assert {spelled(value) for value in stored} == {name}


@pytest.mark.parametrize(
    "text",
    ["007", "007.0", "1.10", "3.5.0", "12E5", "1e5", "+7", "17.", ".0", "20260304", "2026-13-01 00:00:00", "a.0"],
)
def test_a_text_that_no_number_column_writes_stays_as_it_is(text: str) -> None:
    assert spelled(text) == text


@pytest.mark.parametrize(
    "value", [2.0**53, float(10**18), "9007199254740992.0", "1.2345678901234568e+18", "1.23457E+11"]
)
def test_a_number_without_all_its_digits_identifies_nothing(value: Any) -> None:
    with pytest.raises(LostDigits):
        spelled(value)


@given(
    st.integers(-(2**53) + 1, 2**53 - 1).map(str)
    | st.booleans().map(lambda value: str(value).lower())
    | st.datetimes(datetime.datetime(1000, 1, 1)).map(lambda value: value.isoformat().removesuffix("T00:00:00"))
    | st.datetimes(datetime.datetime(1000, 1, 1)).map(lambda value: f"{value.isoformat()}+00:00")
)
def test_every_way_to_write_an_id_leads_back_to_it(name: str) -> None:
    ways = respelled(name)
    assert name in ways.values() and {spelled(text) for text in ways.values()} == {name}


@given(st.text(max_size=12) | st.integers().map(str) | st.floats(allow_nan=False, allow_infinity=False).map(str))
def test_a_spelling_is_final_and_other_text_is_kept(text: str) -> None:
    try:
        name = spelled(text)
    except LostDigits:
        return
    assert spelled(name) == name and likeness(name) == likeness(name)
    json.dumps(name)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("007", "7"), ("A-17", "a-17"), ("INV-0042", "inv 42"), ("INV17", "INV-17"), ("1,234", "1234"),
        ("1e5", "100000"), ("17.5", "17.50"), ("+7", "7"), ("\uff11\uff17", "17"),
        ("ID_9", "id-9"), ("cafe\u0301", "café"),
        ("6F2AD3A4-4D2B-4C5E-9A52-0D6C1C1D2E3F", "{6f2ad3a44d2b4c5e9a520d6c1c1d2e3f}"),
    ],
)  # fmt: skip
def test_ids_that_could_be_one_are_alike(one: str, other: str) -> None:
    assert spelled(one) != spelled(other) and likeness(one) == likeness(other)


@pytest.mark.parametrize(
    ("one", "other"), [("1-12", "11-2"), ("17", "170"), ("a1", "b1"), ("1.10", "1.01"), ("***", "---"), ("-3", "3")]
)
def test_ids_of_other_documents_are_not(one: str, other: str) -> None:
    assert likeness(one) != likeness(other)
