"""Limits of a recipe, and times of day that follow midnight and daylight saving."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.core.answer_store import Answer, AnswerStore
from tasks.core.home import Home
from tasks.core.stage import StageContext
from tasks.generate import budget
from tasks.generate.budget import Budget, budget_of, next_time_of_day
from tasks.generate.config import GenerateConfig, Limits


@pytest.fixture
def zurich(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Zurich")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def at(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text)


@pytest.mark.parametrize(
    ("now", "clock", "expected"),
    [
        ("2026-11-21T22:00:00+01:00", "23:30", "2026-11-21T23:30:00+01:00"),
        ("2026-11-21T22:00:00+01:00", "04:30", "2026-11-22T04:30:00+01:00"),
        ("2026-11-21T04:30:00+01:00", "04:30", "2026-11-22T04:30:00+01:00"),
        ("2026-12-31T23:00:00+01:00", "00:00", "2027-01-01T00:00:00+01:00"),
        ("2026-03-28T22:00:00+01:00", "06:00", "2026-03-29T06:00:00+02:00"),
        ("2026-10-24T22:00:00+02:00", "06:00", "2026-10-25T06:00:00+01:00"),
        ("2026-11-21T21:00:00+00:00", "22:30", "2026-11-21T22:30:00+01:00"),
        # Put back at 03:00: 02:30 comes twice.
        ("2026-10-25T02:15:00+02:00", "02:30", "2026-10-25T02:30:00+02:00"),
        ("2026-10-25T02:45:00+02:00", "02:30", "2026-10-25T02:30:00+01:00"),
        ("2026-10-25T02:15:00+01:00", "02:30", "2026-10-25T02:30:00+01:00"),
        ("2026-10-25T02:45:00+01:00", "02:30", "2026-10-26T02:30:00+01:00"),
        # Put forward at 02:00: there is no 02:30.
        ("2026-03-29T01:15:00+01:00", "02:30", "2026-03-29T03:30:00+02:00"),
        ("2026-03-29T01:45:00+01:00", "02:30", "2026-03-29T03:30:00+02:00"),
        ("2026-03-29T04:00:00+02:00", "02:30", "2026-03-30T02:30:00+02:00"),
    ],
)
@pytest.mark.usefixtures("zurich")
def test_the_deadline_is_the_next_such_time_on_the_local_clock(now: str, clock: str, expected: str) -> None:
    assert next_time_of_day(clock, at(now)) == at(expected)


def test_each_limit_is_named_when_it_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    spent = Budget(Limits(rows=10, tokens=100))
    assert spent.reached() is None
    spent.tokens = 100
    assert spent.reached() == "tokens 100"
    spent.rows = 10
    assert spent.reached() == "rows 10"
    clock = [datetime.datetime(2026, 11, 21, 1, 0).astimezone()]
    monkeypatch.setattr(budget, "local_time", lambda: clock[0])
    late = Budget(Limits(deadline="01:30"))
    assert late.reached() is None
    clock[0] += datetime.timedelta(minutes=30)
    assert late.reached() == "deadline 01:30"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[datetime.datetime]:
    now = [datetime.datetime(2026, 11, 21, 4, 0).astimezone()]
    monkeypatch.setattr(budget, "local_time", lambda: now[0])
    return now


@pytest.fixture
def store(tmp_path: Path) -> Iterator[AnswerStore]:
    with AnswerStore.open(tmp_path / "answers.sqlite") as opened:
        yield opened


def again(folder: Path, store: AnswerStore, run_id: str = "run-1", **settings: Any) -> Budget:
    """The budget as every try of the stage makes it."""
    config = GenerateConfig(**{"prompts": ("p",), **settings})
    return budget_of(config, store, StageContext(Home(folder / "home"), run_id, "key"))


@pytest.mark.parametrize(
    ("limits", "reason"), [({"deadline": "04:30"}, "deadline 04:30"), ({"minutes": 20}, "minutes 20")]
)
def test_a_retry_has_no_more_time_than_the_run_had(
    tmp_path: Path, store: AnswerStore, clock: list[datetime.datetime], limits: dict[str, Any], reason: str
) -> None:
    assert again(tmp_path, store, limits=limits).reached() is None
    clock[0] += datetime.timedelta(minutes=31)
    assert again(tmp_path, store, limits=limits).reached() == reason
    assert again(tmp_path, store, "run-2", limits=limits).reached() is None


def test_a_retry_has_no_more_tokens_than_the_run_had(tmp_path: Path, store: AnswerStore) -> None:
    limits = {"tokens": 100}
    for number in range(10):
        store.add(Answer(f"{number}", "text", "stop", 4, 6), "run-1")
    assert again(tmp_path, store, limits=limits).reached() == "tokens 100"
    assert again(tmp_path, store, "run-2", limits=limits).tokens == 0


def test_a_deadline_after_the_stages_own_end_ends_shortly_before_that(
    tmp_path: Path, store: AnswerStore, clock: list[datetime.datetime]
) -> None:
    spent = again(tmp_path, store, limits={"deadline": "07:00"}, timeout_minutes=60)
    clock[0] += datetime.timedelta(minutes=57)
    assert spent.reached() is None
    clock[0] += datetime.timedelta(minutes=1)
    assert spent.reached() == "timeout_minutes 60"
    assert again(tmp_path, store, limits={"rows": 5}, timeout_minutes=0.001).reached() is None


def test_without_limits_nothing_is_ever_reached() -> None:
    spent = Budget(Limits())
    spent.tokens = spent.rows = 10**9
    assert spent.reached() is None
