"""How far a training set has moved from an earlier one: one number a measure, for the limits of a contract.

Distances between distributions leave out what chance explains, so that two draws from the same source lie near 0
however small they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tasks.validate.drift.profile import Counts, Profile

SINCE_BASELINE = "_since_baseline"
FEW_ROWS = 5
"""Values that fewer rows of the smaller set would have, were the two alike, are counted together."""
SHOWN = 3
LEAST_SIMILARITY = 0.01
"""A self-similarity below this counts as this: twice next to nothing is next to nothing."""


def row_count_change(now: Profile, then: Profile) -> float | None:
    """Relative change of the number of rows: -0.5 is half as many, 1 twice as many."""
    return now.rows / then.rows - 1 if then.rows else None


def user_length_distance(now: Profile, then: Profile) -> float | None:
    """Distance of the lengths of what users say, in half octaves of characters; see :func:`distance`."""
    return distance(now.user.bins, then.user.bins)


def assistant_length_distance(now: Profile, then: Profile) -> float | None:
    """The same of what the assistant says."""
    return distance(now.assistant.bins, then.assistant.bins)


def label_distance(now: Profile, then: Profile) -> float | None:
    """Distance of the shares of answers; all free text counts as one."""
    return distance(now.answers, then.answers)


def source_distance(now: Profile, then: Profile) -> float | None:
    """Distance of the shares of document sources."""
    return distance(now.sources, then.sources)


def prompt_distance(now: Profile, then: Profile) -> float | None:
    """Distance of the shares of prompts; ``(collected)`` is one of them."""
    return distance(now.prompts, then.prompts)


def language_distance(now: Profile, then: Profile) -> float | None:
    """Distance of the shares of languages, as detected in samples."""
    return distance(now.languages, then.languages)


def refusal_share_change(now: Profile, then: Profile) -> float | None:
    """Share of answers that refuse, less the share then: 0.02 is two more in a hundred.

    Two standard errors of the difference (of two samples from one source) are taken off, towards 0.
    """
    if not now.sample or not then.sample:
        return None
    change = now.refusals / now.sample - then.refusals / then.sample
    share = (now.refusals + then.refusals) / (now.sample + then.sample)
    chance = 2 * math.sqrt(share * (1 - share) * (1 / now.sample + 1 / then.sample))
    return math.copysign(max(0.0, abs(change) - chance), change)


def self_similarity_change(now: Profile, then: Profile) -> float | None:
    """Relative change of the mean similarity of two rows: 1 is twice as alike.

    Its inverse is the effective number of distinct texts (Leinster and Cobbold 2012): twice as alike, half as many.
    """
    if now.self_similarity is None or then.self_similarity is None:
        return None
    return (now.self_similarity - then.self_similarity) / max(then.self_similarity, LEAST_SIMILARITY)


def distinct_change(now: Profile, then: Profile) -> float | None:
    """Relative change of the share of distinct pairs of words, in the largest draw that both sets have."""
    both = now.distinct.keys() & then.distinct.keys()
    return now.distinct[max(both)] / then.distinct[max(both)] - 1 if both else None


Measure = Callable[["Profile", "Profile"], float | None]
MEASURES: Mapping[str, Measure] = {
    measure.__name__: measure
    for measure in (
        row_count_change,
        user_length_distance,
        assistant_length_distance,
        label_distance,
        source_distance,
        prompt_distance,
        language_distance,
        refusal_share_change,
        self_similarity_change,
        distinct_change,
    )
}
DRIFT_COLUMNS = {f"{name}{suffix}": "number" for suffix in ("", SINCE_BASELINE) for name in MEASURES}
"""The columns of the table ``drift`` of a training set's contract, with their types: it has one row."""


def measure_drift(now: Profile, last: Profile | None, baseline: Profile | None) -> dict[str, float | None]:
    """The one row of the table ``drift``: every measure against the last set, and against one further back.

    Returns:
        by column; None where there is nothing to compare with.
    """
    return {
        f"{name}{suffix}": measure(now, then) if then is not None else None
        for suffix, then in (("", last), (SINCE_BASELINE, baseline))
        for name, measure in MEASURES.items()
    }


def distance(one: Counts, other: Counts) -> float | None:
    """The Jensen-Shannon distance of two distributions, less what chance explains: 0 (the same) to 1 (nothing shared).

    The square root of the Jensen-Shannon divergence to the base 2 is a metric (Endres and Schindelin 2003, IEEE Trans.
    Inf. Theory 49:1858). Of two draws of n and m from one distribution with k values the divergence is near to a
    chi-squared variable with k - 1 degrees of freedom, times (1/n + 1/m) / (8 ln 2) (Grosse et al. 2002, Phys. Rev. E
    65:041905). That variable's mean and three standard deviations are taken off before the root. None where one of the
    two has no rows.
    """
    if not one.rows or not other.rows:
        return None
    shares = np.array([_shares(one, _frequent(one, other)), _shares(other, _frequent(one, other))])
    shares = shares[:, shares.any(axis=0)]
    middle = shares.mean(axis=0)
    divergence = float(np.mean([_relative_entropy(share, middle) for share in shares]))
    freedom = shares.shape[1] - 1
    chance = (freedom + 3 * np.sqrt(2 * freedom)) * (1 / one.rows + 1 / other.rows) / (8 * np.log(2))
    return float(np.sqrt(np.clip(divergence - chance, 0, 1)))


def _relative_entropy(share: NDArray[np.float64], middle: NDArray[np.float64]) -> float:
    """In bits."""
    there = share > 0
    return float(np.sum(share[there] * np.log2(share[there] / middle[there])))


def _frequent(one: Counts, other: Counts) -> list[str]:
    """The values that are frequent enough to be told from chance, in a stable order.

    Chosen by what both sets have together: by what either has, chance itself would be chosen.
    """
    smaller = min(one.rows, other.rows) / (one.rows + other.rows)
    together = {name: one.names.get(name, 0) + other.names.get(name, 0) for name in {*one.names, *other.names}}
    return sorted(name for name, rows in together.items() if rows * smaller >= FEW_ROWS)


def _shares(counts: Counts, names: list[str]) -> NDArray[np.float64]:
    """The shares of these values, and of all others together."""
    found = np.array([counts.names.get(name, 0) for name in names], dtype=float)
    return np.append(found, counts.rows - found.sum()) / counts.rows


def explain(column: str, now: Profile, then: Profile) -> str:
    """What stands behind a measure, for people: what it was made of then, and now."""
    name = column.removesuffix(SINCE_BASELINE)
    counts = {
        "label_distance": (then.answers, now.answers),
        "source_distance": (then.sources, now.sources),
        "prompt_distance": (then.prompts, now.prompts),
        "language_distance": (then.languages, now.languages),
    }
    lengths = {
        "user_length_distance": (then.user, now.user),
        "assistant_length_distance": (then.assistant, now.assistant),
    }
    if name in counts:
        return _moved_most(*counts[name])
    if name in lengths:
        before, after = (one.characters.get("p50", 0) for one in lengths[name])
        return f"median {before} characters then, {after} now"
    if name == "row_count_change":
        return f"{then.rows} rows then, {now.rows} now"
    if name == "refusal_share_change":
        return f"{then.refusals} of {then.sample} answers then, {now.refusals} of {now.sample} now"
    if name == "self_similarity_change":
        return f"mean similarity of two rows {_number(then.self_similarity)} then, {_number(now.self_similarity)} now"
    draw = max(now.distinct.keys() & then.distinct.keys(), default=0)
    return (
        f"distinct pairs of words, of {draw} drawn: {_number(then.distinct.get(draw))} then,"
        f" {_number(now.distinct.get(draw))} now"
    )


def _moved_most(then: Counts, now: Counts) -> str:
    """The values whose shares changed most, those first."""
    changes = {
        name: (then.names.get(name, 0) / max(then.rows, 1), now.names.get(name, 0) / max(now.rows, 1))
        for name in {*then.names, *now.names}
    }
    most = sorted(changes.items(), key=lambda item: (-abs(item[1][1] - item[1][0]), item[0]))[:SHOWN]
    return "; ".join(f"{name} {before:.1%} then, {after:.1%} now" for name, (before, after) in most)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
