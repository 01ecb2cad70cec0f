"""Retry-After headers: seconds or dates, and whatever else servers send."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.retry_after import retry_after

NOW = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"), [("7", 7), ("0.5", 0.5), ("-3", 0), ("1e9", 300), ("nan", None), ("soon", None), ("", None)]
)
def test_seconds_are_read_within_reason(value: str, seconds: float | None) -> None:
    assert retry_after(value, NOW, 300) == seconds


def test_a_date_is_read() -> None:
    assert retry_after("Mon, 02 Nov 2026 12:00:30 GMT", NOW) == 30
    assert retry_after("Mon, 02 Nov 2026 12:01:00 -0000", NOW) == 60
    assert retry_after("Mon, 02 Nov 2026 11:00:00 GMT", NOW) == 0
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT", NOW, 300) == 0


def test_what_is_neither_is_ignored() -> None:
    assert retry_after("²", NOW) is retry_after(None, NOW) is None


@given(st.text())
def test_no_header_can_break_anything(value: str) -> None:
    seconds = retry_after(value, NOW, 300)
    assert seconds is None or 0 <= seconds <= 300
