"""The check on labels: whether each has a fair share of the rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from tasks.validate.contracts.expectations.own import Arguments, Observation, Share, TableCheck

if TYPE_CHECKING:
    import pandas as pd

SHOWN = 5  # labels of each kind that a result names; its details have all


class LabelShares(Arguments):
    """Bounds on each label's share of the labels that are not missing."""

    min_share: Share | None = None
    max_share: Share | None = None
    value_set: Sequence[str | int | float | bool] | None = Field(
        None, min_length=1, description="labels that must be there; others may be there too"
    )

    @model_validator(mode="after")
    def _can_hold(self) -> LabelShares:
        if self.min_share is None and self.max_share is None and self.value_set is None:
            raise ValueError("give min_share, max_share, value_set or several of them")
        low, high = self.min_share or 0.0, 1.0 if self.max_share is None else self.max_share
        if low > high:
            raise ValueError(f"min_share {low:g} is more than max_share {high:g}")
        if self.value_set and low * len(set(self.value_set)) > 1:
            raise ValueError(f"{len(set(self.value_set))} labels cannot have {low:.1%} each")
        return self


def observe_label_shares(values: pd.Series[Any], arguments: LabelShares) -> Observation:
    """The share of every label; a missing label of ``value_set`` has share 0. Rows without a label do not count.

    It fails where a share is below ``min_share`` or above ``max_share``, or a label of ``value_set`` is missing.
    """
    counts = values.dropna().map(str).value_counts()
    total = int(counts.sum())
    shares = {str(label): int(count) / total for label, count in counts.items()}
    shares |= {str(label): 0.0 for label in arguments.value_set or () if str(label) not in shares}
    lowest, highest = arguments.min_share or 0.0, 1.0 if arguments.max_share is None else arguments.max_share
    missing = [label for label, share in shares.items() if share == 0]
    low = [label for label, share in shares.items() if 0 < share < lowest]
    high = [label for label, share in shares.items() if share > highest]
    complaints = [
        *([f"missing: {_first(missing)}"] if missing else []),
        *([f"below {lowest:.1%}: {_first(low, shares)}"] if low else []),
        *([f"above {highest:.1%}: {_first(high, shares)}"] if high else []),
    ]
    rest = f"shares from {min(shares.values()):.1%} to {max(shares.values()):.1%}" if shares else "no labels"
    details = {"shares": dict(sorted(shares.items(), key=lambda item: (-item[1], item[0]))), "rows": total}
    return Observation(not complaints, "; ".join([*complaints, rest]), details)


def _first(labels: Sequence[str], shares: dict[str, float] | None = None) -> str:
    named = [f"{label} {shares[label]:.1%}" if shares else label for label in labels[:SHOWN]]
    more = len(labels) - len(named)
    return ", ".join([*named, *([f"and {more} more"] if more else [])])


def _sentence(arguments: LabelShares) -> str:
    low, high, labels = arguments.min_share, arguments.max_share, arguments.value_set
    bounds = [
        *([f"at least {low:.1%}"] if low is not None else []),
        *([f"at most {high:.1%}"] if high is not None else []),
    ]
    asked = [
        *([f"each label's share must be {' and '.join(bounds)}"] if bounds else []),
        *([f"these labels must be there: {_first([str(label) for label in labels])}"] if labels else []),
    ]
    return "; ".join(asked)


CHECKS = (TableCheck("expect_column_label_shares_to_be_between", LabelShares, observe_label_shares, _sentence),)
