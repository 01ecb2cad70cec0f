from __future__ import annotations

import pytest

from tasks.validate.contracts import backtracking
from tasks.validate.contracts.backtracking import endless

HARMLESS = [
    r"^\s*(?:\S+\s+){2,}\S",
    r"[^\W\d_]{2}",
    "please",
    "",
    r"^(\w+ ){2}",
    r"<\|(?:im_start|im_end)\|>",
    "(?i)^yes",
]
ENDLESS = [r"^(\w+\s?)+$", "(a+)+b", r"(\d|\d\d)*x", r"^(\s*\w*)*:$"]


def test_patterns_that_never_end_are_told_from_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backtracking, "PATIENCE_SECONDS", 1)
    mixed = [HARMLESS[0], *ENDLESS[:2], *HARMLESS[1:], *ENDLESS[2:]]
    assert endless(mixed) == {*ENDLESS}


def test_no_patterns_need_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backtracking, "_TRY_ALL", "raise SystemExit(1)")
    assert endless([]) == frozenset()
