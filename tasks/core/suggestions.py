"""Suggestions for a misspelt name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``did you mean 'x'? `` where a known name resembles this one, in any case; else the empty string.

    Put it before the choices.
    """
    by_folded = {one.casefold(): one for one in known}
    near = difflib.get_close_matches(name.casefold(), by_folded, 1)
    return f"did you mean {by_folded[near[0]]!r}? " if near else ""
