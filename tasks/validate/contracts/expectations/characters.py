"""The check on characters that no reader sees."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc

from tasks.core.characters import CONTROL_BEFORE_LETTER, HIDDEN, broken_command, hidden_characters
from tasks.validate.contracts.expectations.own import Arguments, Mask, RowCheck, search

if TYPE_CHECKING:
    import pandas as pd

SUSPECT = f"{HIDDEN.pattern}|{CONTROL_BEFORE_LETTER}"


def holds_hidden_character(values: pd.Series[Any], arguments: Arguments) -> Mask:
    """Texts with invisible characters in no ordinary use, or with a LaTeX command whose backslash JSON has taken."""
    held = search(values, lambda texts: pc.match_substring_regex(texts, SUSPECT))
    for position in np.flatnonzero(held):
        text = str(values.iloc[position])
        held[position] = bool(hidden_characters(text)) or broken_command(text) is not None
    return held


def _sentence(arguments: Arguments) -> str:
    return "values must not hold control characters, zero-width characters or other characters that no reader sees"


CHECKS = (RowCheck("expect_column_values_to_not_hold_hidden_characters", Arguments, holds_hidden_character, _sentence),)
