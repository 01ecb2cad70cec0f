"""Retune's own expectations, by name."""

from __future__ import annotations

from tasks.validate.contracts.expectations import (
    conversations,
    json_values,
    labels,
    languages,
    phrases,
    repetition,
    tokens,
)
from tasks.validate.contracts.expectations.own import RowCheck, TableCheck

FAMILIES: tuple[tuple[RowCheck | TableCheck, ...], ...] = (
    conversations.CHECKS,
    json_values.CHECKS,
    labels.CHECKS,
    languages.CHECKS,
    phrases.CHECKS,
    repetition.CHECKS,
    tokens.CHECKS,
)
OWN: dict[str, RowCheck | TableCheck] = {check.name: check for family in FAMILIES for check in family}
