"""Concurrency that adapts, against simulated servers whose capacity is known."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tasks.generate.adaptive_concurrency import START, Pace

TOKENS = 30


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def drive(pace: Pace, clock: Clock, answers: int, rate: Callable[[int], float]) -> list[int]:
    """Answer so many requests, always as many in flight as allowed; ``rate`` is answers a second at a concurrency."""
    limits = []
    for _ in range(answers):
        pace.in_flight = pace.limit
        clock.now += 1 / rate(pace.limit)
        pace.answered(TOKENS)
        limits.append(pace.limit)
    return limits


def paced(most: int) -> tuple[Pace, Clock]:
    clock = Clock()
    return Pace(most, now=clock), clock


def test_it_starts_with_what_is_allowed_up_to_a_reasonable_number() -> None:
    assert Pace(8).limit == 8 and Pace(4096).limit == START


def test_it_grows_to_what_is_allowed_while_throughput_grows() -> None:
    pace, clock = paced(1024)
    limits = drive(pace, clock, 4000, rate=lambda limit: limit**0.8)
    assert limits[-1] == 1024
    assert sorted(limits) == limits


def test_it_stays_near_the_knee_of_a_server_that_serves_no_more_with_more() -> None:
    pace, clock = paced(4096)
    limits = drive(pace, clock, 20_000, rate=lambda limit: min(limit, 150))
    assert set(limits[2000:]) <= {256, 512, 320} and limits.count(256) > 0.7 * len(limits)


def test_a_step_that_loses_throughput_is_taken_back() -> None:
    pace, clock = paced(4096)
    limits = drive(pace, clock, 20_000, rate=lambda limit: limit if limit <= START else START * START / limit)
    assert limits.count(START) > 0.6 * len(limits) and max(limits) == 2 * START


def test_an_overload_halves_it_once_for_all_that_were_in_flight_and_it_grows_back() -> None:
    pace, clock = paced(64)
    clock.now = 10.0
    for _ in range(64):
        pace.overloaded(sent_at=9.0)
    assert pace.limit == 32
    clock.now = 20.0
    pace.overloaded(sent_at=15.0)
    assert pace.limit == 16
    drive(pace, clock, 2000, rate=lambda limit: float(limit))
    assert pace.limit == 64


def test_it_never_falls_below_one() -> None:
    pace, clock = paced(4)
    for second in range(1, 9):
        clock.now = float(second)
        pace.overloaded(sent_at=clock.now)
    assert pace.limit == 1


@pytest.mark.parametrize("in_flight", [1, 30])
def test_too_little_work_tells_nothing(in_flight: int) -> None:
    pace, clock = paced(4096)
    for _ in range(5000):
        clock.now += 0.01
        pace.in_flight = in_flight
        pace.answered(TOKENS)
    assert pace.limit == START
