"""How far a training set has moved from an earlier one: one number per measure, for the limits of a contract.

Distances between distributions subtract what chance explains, so two draws from one source are near 0 at any size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # the command reads the columns without loading what measures a profile
    from tasks.validate.drift.profile import Counts, Profile

Measure: TypeAlias = Callable[["Profile", "Profile"], "float | None"]
SINCE_BASELINE = "_since_baseline"
FEW_ROWS = 5
"""Values are counted together if fewer rows of the smaller set would have them, were the two sets alike."""
SHOWN = 3
LEAST_SIMILARITY = 0.01
"""A lower self-similarity counts as this: a relative change of almost nothing has no meaning."""


def row_count_change(now: Profile, then: Profile) -> float | None:
    """Relative change of the number of rows: -0.5 is half as many, 1 twice as many."""
    return now.rows / then.rows - 1 if then.rows else None


def refusal_share_change(now: Profile, then: Profile) -> float | None:
    """Change of the share of answers that refuse: 0.02 is two more in a hundred.

    Reduced towards 0 by two standard errors of the difference of two samples from one source.
    """
    if not now.sample or not then.sample:
        return None
    change = now.refusals / now.sample - then.refusals / then.sample
    share = (now.refusals + then.refusals) / (now.sample + then.sample)
    chance = 2 * math.sqrt(share * (1 - share) * (1 / now.sample + 1 / then.sample))
    return math.copysign(max(0.0, abs(change) - chance), change)


def self_similarity_change(now: Profile, then: Profile) -> float | None:
    """Relative change of the mean similarity of two rows: 1 is twice as similar.

    The inverse of the similarity is the effective number of distinct texts (Leinster and Cobbold 2012).
    """
    if now.self_similarity is None or then.self_similarity is None:
        return None
    return (now.self_similarity - then.self_similarity) / max(then.self_similarity, LEAST_SIMILARITY)


def distinct_change(now: Profile, then: Profile) -> float | None:
    """Relative change of the share of distinct word pairs, in the largest draw that both sets have."""
    both = now.distinct.keys() & then.distinct.keys()
    return now.distinct[max(both)] / then.distinct[max(both)] - 1 if both else None


DISTANCES = {
    "user_length_distance": "user.bins",
    "assistant_length_distance": "assistant.bins",
    "label_distance": "answers",
    "source_distance": "sources",
    "prompt_distance": "prompts",
    "language_distance": "languages",
}
"""The counts of a profile that each measure compares. Lengths are in half octaves of characters; all free text is one
label; ``(collected)`` is a prompt; languages are detected in samples."""


def _distance_of(counts: str) -> Measure:
    return lambda now, then: distance(attrgetter(counts)(now), attrgetter(counts)(then))


MEASURES: Mapping[str, Measure] = {
    "row_count_change": row_count_change,
    **{name: _distance_of(counts) for name, counts in DISTANCES.items()},
    "refusal_share_change": refusal_share_change,
    "self_similarity_change": self_similarity_change,
    "distinct_change": distinct_change,
}
DRIFT_COLUMNS = {f"{name}{suffix}": "number" for suffix in ("", SINCE_BASELINE) for name in MEASURES}
"""The columns of the one-row table ``drift`` of a training set's contract, with their logical types."""


def measure_drift(now: Profile, last: Profile | None, baseline: Profile | None) -> dict[str, float | None]:
    """The row of the table ``drift``: every measure against the last training set and an older one, or None."""
    return {
        f"{name}{suffix}": measure(now, then) if then is not None else None
        for suffix, then in (("", last), (SINCE_BASELINE, baseline))
        for name, measure in MEASURES.items()
    }


def distance(one: Counts, other: Counts) -> float | None:
    """The Jensen-Shannon distance of two distributions, less chance: 0 (equal) to 1 (nothing shared).

    The square root of the Jensen-Shannon divergence to the base 2 is a metric (Endres and Schindelin 2003, IEEE Trans.
    Inf. Theory 49:1858). The divergence of two draws of n and m from one distribution with k values is near to a
    chi-squared variable with k - 1 degrees of freedom, times (1/n + 1/m) / (8 ln 2) (Grosse et al. 2002, Phys. Rev. E
    65:041905). Its mean and three standard deviations are subtracted before the root. None if one set has no rows.
    """
    if not one.rows or not other.rows:
        return None
    frequent = _frequent(one, other)
    shares = np.array([_shares(one, frequent), _shares(other, frequent)])
    shares = shares[:, shares.any(axis=0)]
    middle = shares.mean(axis=0)
    divergence = float(np.mean([_relative_entropy(share, middle) for share in shares]))
    freedom = shares.shape[1] - 1
    chance = (freedom + 3 * np.sqrt(2 * freedom)) * (1 / one.rows + 1 / other.rows) / (8 * np.log(2))
    return float(np.sqrt(np.clip(divergence - chance, 0, 1)))


def _relative_entropy(share: NDArray[np.float64], middle: NDArray[np.float64]) -> float:
    present = share > 0
    return float(np.sum(share[present] * np.log2(share[present] / middle[present])))


def _frequent(one: Counts, other: Counts) -> list[str]:
    """The values that are frequent in both sets together; frequency in either set alone would select by chance."""
    smaller = min(one.rows, other.rows) / (one.rows + other.rows)
    total = {name: one.names.get(name, 0) + other.names.get(name, 0) for name in {*one.names, *other.names}}
    return sorted(name for name, rows in total.items() if rows * smaller >= FEW_ROWS)


def _shares(counts: Counts, names: list[str]) -> NDArray[np.float64]:
    found = np.array([counts.names.get(name, 0) for name in names], dtype=float)
    return np.append(found, counts.rows - found.sum()) / counts.rows


def explain(column: str, now: Profile, then: Profile) -> str:
    """Describe what a measure was computed from, then and now."""
    name = column.removesuffix(SINCE_BASELINE)
    if name.endswith("_length_distance"):
        role = attrgetter(DISTANCES[name].removesuffix(".bins"))
        before, after = (role(profile).characters.get("p50", 0) for profile in (then, now))
        return f"median {before} characters then, {after} now"
    if name in DISTANCES:
        return _largest_changes(*map(attrgetter(DISTANCES[name]), (then, now)))
    if name == "row_count_change":
        return f"{then.rows} rows then, {now.rows} now"
    if name == "refusal_share_change":
        return f"{then.refusals} of {then.sample} answers then, {now.refusals} of {now.sample} now"
    if name == "self_similarity_change":
        return f"mean similarity of two rows {_number(then.self_similarity)} then, {_number(now.self_similarity)} now"
    draw = max(now.distinct.keys() & then.distinct.keys(), default=0)
    shares = f"{_number(then.distinct.get(draw))} then, {_number(now.distinct.get(draw))} now"
    return f"distinct pairs of words, of {draw} drawn: {shares}"


def _largest_changes(then: Counts, now: Counts) -> str:
    changes = {
        name: (then.names.get(name, 0) / max(then.rows, 1), now.names.get(name, 0) / max(now.rows, 1))
        for name in {*then.names, *now.names}
    }
    most = sorted(changes.items(), key=lambda item: (-abs(item[1][1] - item[1][0]), item[0]))[:SHOWN]
    return "; ".join(f"{name} {before:.1%} then, {after:.1%} now" for name, (before, after) in most)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
