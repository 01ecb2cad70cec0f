"""One run at a time: the second is refused, and told who holds the lock."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tasks.core.errors import BusyError
from tasks.core.home import Home
from tasks.core.lock import HOLDER, is_locked, require_unlocked, run_lock


def test_the_holder_is_named_while_it_holds_the_lock_and_not_afterwards(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    require_unlocked(home)
    assert not home.root.exists(), "asking leaves nothing behind"
    with run_lock(home):
        for ask in (require_unlocked, lambda home: run_lock(home).__enter__()):
            with pytest.raises(BusyError, match=f"Another run is under way: process {os.getpid()} on ") as caught:
                ask(home)
            assert caught.value.where == str(home.root)
        assert is_locked(home)
    assert not is_locked(home) and not (home.root / HOLDER).exists()


def test_a_holder_that_could_not_be_read_is_left_out(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with run_lock(home):
        (tmp_path / HOLDER).write_text("{", encoding="utf-8")
        with pytest.raises(BusyError, match=r"^Another run is under way\n"):
            require_unlocked(home)
