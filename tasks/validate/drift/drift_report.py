"""Report drift: each measure, its limit and its explanation, as text and as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from tasks.validate.checkpoint import RuleResult
from tasks.validate.drift.drift import SINCE_BASELINE, explain, measure_drift
from tasks.validate.drift.profile import Profile
from tasks.validate.quarantine import SEVERITIES


@dataclass(frozen=True)
class PublishedProfile:
    """The profile of a published training set, and the version of the model that was trained on it."""

    version: str
    profile: Profile


@dataclass(frozen=True)
class Drift:
    """How far a training set has moved from the last published one, and from an older one."""

    now: Profile
    last: PublishedProfile | None
    baseline: PublishedProfile | None

    @cached_property
    def values(self) -> Mapping[str, float | None]:
        """Every measure by its column; None where there is nothing to compare with."""
        last, baseline = (published.profile if published else None for published in (self.last, self.baseline))
        return measure_drift(self.now, last, baseline)

    @property
    def row(self) -> pa.Table:
        """The table ``drift`` of a contract."""
        return pa.table({name: pa.array([value], pa.float64()) for name, value in self.values.items()})

    @property
    def compared_with(self) -> dict[str, str]:
        """The versions that the training set is compared with, by their role."""
        roles = {"the last published version": self.last, "the baseline version": self.baseline}
        return {role: published.version for role, published in roles.items() if published}

    def measures(self, results: Sequence[RuleResult]) -> dict[str, dict[str, Any]]:
        """Each measure with a value, its most important limit, that limit's severity and an explanation."""
        return {
            column: self._measure(column, value, [result for result in results if column in result.rule.columns])
            for column, value in self.values.items()
            if value is not None
        }

    def _measure(self, column: str, value: float, results: Sequence[RuleResult]) -> dict[str, Any]:
        then = self._then(column)
        by_weight = sorted(results, key=lambda result: (result.success, SEVERITIES.index(result.rule.severity)))
        return {
            "value": value,
            "limit": _limit(by_weight[0], value) if by_weight else None,
            "severity": by_weight[0].rule.severity if by_weight else None,
            "holds": all(result.success for result in results),
            "against": then and then.version,
            "said": explain(column, self.now, then.profile) if then else "",
        }

    def describe(self, broken: Sequence[RuleResult]) -> list[str]:
        """Describe each broken limit: measure, value, limit, version compared with, and what changed.

        A measure that breaks the same limit against the last publication and the baseline, if they are one, is
        described once.
        """
        columns = [next(iter(result.rule.columns), "") for result in broken]
        if self.last == self.baseline:
            repeated = {name for name in columns if name.removesuffix(SINCE_BASELINE) in {*columns} - {name}}
        else:
            repeated = set()
        pairs = zip(columns, broken, strict=True)
        return [self._describe(column, result) for column, result in pairs if column not in repeated]

    def _describe(self, column: str, result: RuleResult) -> str:
        if result.exception:
            return f"{result.rule.name} could not be run: {result.exception}"
        value, then = self.values.get(column), self._then(column)
        if value is None or then is None:
            return f"{result.rule.name}: {result.observed}"
        limit = _limit(result, value)
        bound = "least" if limit is not None and value < limit else "most"
        explanation = explain(column, self.now, then.profile)
        return f"{column} is {value:.3f}, at {bound} {limit} is allowed, against version {then.version}: {explanation}"

    def _then(self, column: str) -> PublishedProfile | None:
        return self.baseline if column.endswith(SINCE_BASELINE) else self.last


def _limit(result: RuleResult, value: float) -> float | None:
    least, most = (result.rule.arguments.get(name) for name in ("min_value", "max_value"))
    is_below = least is not None and value < least
    return least if is_below or most is None else most
