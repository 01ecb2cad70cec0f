"""What drift came to: the measures, their limits, and what stands behind them, in words and as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from tasks.validate.checkpoint import RuleResult
from tasks.validate.drift.drift import SINCE_BASELINE, explain, measure_drift
from tasks.validate.drift.profile import Profile

SEVERITIES = ("critical", "warning", "info")


@dataclass(frozen=True)
class Compared:
    """A published training set that another is compared with: the model's version, and what the set looked like."""

    version: str
    profile: Profile


@dataclass(frozen=True)
class Drift:
    """How far a training set has moved from the last published one, and from one further back."""

    now: Profile
    last: Compared | None
    baseline: Compared | None

    @cached_property
    def values(self) -> Mapping[str, float | None]:
        """Every measure by its column; None where there is nothing to compare with."""
        last, baseline = (one.profile if one else None for one in (self.last, self.baseline))
        return measure_drift(self.now, last, baseline)

    @property
    def row(self) -> pa.Table:
        """The table ``drift`` of a contract."""
        return pa.table({name: pa.array([value], pa.float64()) for name, value in self.values.items()})

    @property
    def compared_with(self) -> dict[str, str]:
        """The versions, by what they are here."""
        named = {"the last published version": self.last, "the baseline version": self.baseline}
        return {name: one.version for name, one in named.items() if one}

    def against(self, column: str) -> Compared | None:
        """What a measure compares with."""
        return self.baseline if column.endswith(SINCE_BASELINE) else self.last

    def measures(self, findings: Sequence[RuleResult]) -> dict[str, dict[str, Any]]:
        """Each measure that has a value: the limit that matters most, its severity, and what stands behind the value.

        Args:
            findings: what the limits found.
        """
        return {
            column: self._measure(column, value, [one for one in findings if column in one.rule.columns])
            for column, value in self.values.items()
            if value is not None
        }

    def _measure(self, column: str, value: float, findings: Sequence[RuleResult]) -> dict[str, Any]:
        then = self.against(column)
        by_weight = sorted(findings, key=lambda one: (one.success, SEVERITIES.index(one.rule.severity)))
        return {
            "value": value,
            "limit": _limit(by_weight[0], value) if by_weight else None,
            "severity": by_weight[0].rule.severity if by_weight else None,
            "holds": all(one.success for one in findings),
            "against": then and then.version,
            "said": explain(column, self.now, then.profile) if then else "",
        }

    def in_words(self, broken: Sequence[RuleResult]) -> list[str]:
        """Limits that do not hold, each in a sentence: measure, value, limit, version compared with, and what moved.

        Where the last publication is the baseline as well, a measure that is over both of its limits is told once.
        """
        columns = [next(iter(finding.rule.columns), "") for finding in broken]
        is_one = self.last == self.baseline
        told = [name for name in columns if not (is_one and name.removesuffix(SINCE_BASELINE) in {*columns} - {name})]
        return [self._in_words(name, finding) for name, finding in zip(columns, broken, strict=True) if name in told]

    def _in_words(self, column: str, finding: RuleResult) -> str:
        if finding.exception:
            return f"{finding.rule.name} could not be run: {finding.exception}"
        value, then = self.values.get(column), self.against(column)
        if value is None or then is None:
            return f"{finding.rule.name}: {finding.observed}"
        limit = _limit(finding, value)
        bound = "least" if limit is not None and value < limit else "most"
        said = explain(column, self.now, then.profile)
        return f"{column} is {value:.3f}, at {bound} {limit} is allowed, against version {then.version}: {said}"


def _limit(finding: RuleResult, value: float) -> float | None:
    """The bound of a limit that a value is over; of one that holds the upper, if it has one."""
    least, most = (finding.rule.arguments.get(name) for name in ("min_value", "max_value"))
    is_below = least is not None and value < least
    return least if is_below or most is None else most
