"""A mutation keeps its place while code moves, and its switch changes that place alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutations.places import Change, changed, find_place
from tests.mutations.run import escaped

BEFORE = '''"""A module."""


def limit(rows: int, least: int) -> bool:
    """Whether there are enough."""
    log(rows, least)
    return rows >= least
'''
AFTER = '''"""A module with other words."""


class Gate:
    """New."""


def limit(rows: int, least: int) -> bool:
    log(rows,  # the field's words
        least)
    return rows >= least


def other(rows: int) -> bool:
    return rows >= 3
'''
BOUND = Change("tasks/a/gate.py", "limit", "rows >= least", "rows > least")
DROPPED = Change("tasks/a/gate.py", "limit", "log(rows, least)", "pass")


def tree(folder: Path, **modules: str) -> Path:
    for name, text in modules.items():
        file = folder / "tasks" / f"{name.replace('__', '/')}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize("change", [BOUND, DROPPED], ids=["bound", "dropped call"])
def test_a_place_is_found_after_its_module_moved_and_its_texts_changed(tmp_path: Path, change: Change) -> None:
    root = tree(tmp_path, b__decision=AFTER)
    place = find_place(root, change)
    assert place is not None
    assert (place.file.name, place.function, place.source) == ("decision.py", "limit", change.before)


def test_a_place_that_two_other_modules_have_is_lost(tmp_path: Path) -> None:
    assert find_place(tree(tmp_path, b__decision=AFTER, c__copy=BEFORE), BOUND) is None
    assert find_place(tree(tmp_path, a__gate=BEFORE), BOUND) is not None, "the module's own path comes first"


@pytest.mark.parametrize(("is_on", "expected", "logged"), [(False, True, 1), (True, False, 0)], ids=["off", "on"])
def test_a_switch_changes_its_place_alone(tmp_path: Path, is_on: bool, expected: bool, logged: int) -> None:
    root = tree(tmp_path, a__gate=AFTER)
    edits = [(place, "on", change.after) for change in (BOUND, DROPPED) if (place := find_place(root, change))]
    assert len(edits) == 2
    log: list[tuple[int, int]] = []
    names = {"on": is_on, "log": lambda rows, least: log.append((rows, least))}
    exec(changed(root / "tasks" / "a" / "gate.py", edits), names)
    limit: object = names["limit"]
    assert callable(limit)
    assert limit(3, 3) is expected
    assert len(log) == logged


def test_what_was_caught_and_is_lost_or_survives_has_escaped() -> None:
    before = [{"id": name, "outcome": "survived" if name == "d" else "caught"} for name in "abcd"]
    after = [
        {"id": name, "outcome": outcome}
        for name, outcome in zip("abcd", ("caught", "lost", "survived", "survived"), strict=True)
    ]
    assert escaped(before, after) == ["b", "c"]
