from __future__ import annotations

import pytest

from tasks.evaluate.config import Gate
from tasks.evaluate.decision import decide
from tasks.evaluate.statistics import Difference

CLEAR = Difference(0.9, 0.8, 0.95, 1e-9)
TIE = Difference(0.0, -0.1, 0.1, 1.0)


def low(bound: float) -> Difference:
    return Difference(bound + 0.1, bound, bound + 0.2, 0.01)


@pytest.mark.parametrize(
    ("n", "over_base", "over_champion", "gate", "decision"),
    [
        (100, CLEAR, None, Gate(), "publish"),
        (100, CLEAR, low(0.01), Gate(), "publish"),
        (100, TIE, None, Gate(), "reject"),
        (100, CLEAR, TIE, Gate(), "reject"),
        (100, TIE, CLEAR, Gate(), "reject"),
        (100, low(0.0), None, Gate(), "reject"),
        (100, low(0.3), None, Gate(margin_over_base=0.3), "reject"),
        (100, low(0.31), None, Gate(margin_over_base=0.3), "publish"),
        (100, CLEAR, low(-0.01), Gate(margin_over_champion=-0.02), "publish"),
        (29, CLEAR, CLEAR, Gate(), "reject"),
        (30, CLEAR, CLEAR, Gate(), "publish"),
    ],
)
def test_only_a_whole_interval_above_the_margin_is_published(
    n: int, over_base: Difference, over_champion: Difference | None, gate: Gate, decision: str
) -> None:
    assert decide(n, over_base, over_champion, gate).decision == decision


def test_the_reason_holds_the_numbers_in_one_sentence() -> None:
    reason = decide(113, CLEAR, TIE, Gate()).reason
    for number in ("113 rows", "+0.0 points over the champion", "-10.0 to +10.0", "p = 1"):
        assert number in reason
    assert "over the base" not in reason, "only what failed is named"
    assert "29 rows" in decide(29, CLEAR, None, Gate()).reason and "30" in decide(29, CLEAR, None, Gate()).reason
    assert "+90.0 points over the base (interval +80.0 to +95.0" in decide(113, CLEAR, None, Gate()).reason
