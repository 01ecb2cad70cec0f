"""Publish or reject: the one place where it is decided."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import starmap
from typing import Literal

from tasks.evaluate.config import Gate
from tasks.evaluate.statistics import Difference


@dataclass(frozen=True)
class Verdict:
    decision: Literal["publish", "reject"]
    reason: str


def decide(n: int, over_base: Difference, over_champion: Difference | None, gate: Gate) -> Verdict:
    """Publish only a candidate that is better than the base, and than the champion if there is one.

    Better means that the whole interval of the paired difference (candidate less rival, on ``n`` rows answered by every
    model) lies above the margin: a tie is no reason to change what users are served.
    """
    if n < gate.minimum_rows:
        return Verdict("reject", f"Only {n} rows were answered by every model; the gate asks for {gate.minimum_rows}.")
    rivals = [("the base", over_base, gate.margin_over_base)]
    if over_champion is not None:
        rivals.append(("the champion", over_champion, gate.margin_over_champion))
    if failed := [_comparison(*rival) for rival in rivals if not rival[1].ci_low > rival[2]]:
        return Verdict("reject", f"On {n} rows the candidate is not better by enough: {'; '.join(failed)}.")
    return Verdict("publish", f"On {n} rows the candidate is better: {'; '.join(starmap(_comparison, rivals))}.")


def _comparison(name: str, difference: Difference, margin: float) -> str:
    side = "above" if difference.ci_low > margin else "not above"
    return (
        f"{100 * difference.difference:+.1f} points over {name} (interval {100 * difference.ci_low:+.1f} to "
        f"{100 * difference.ci_high:+.1f}, p = {difference.p_value:.2g}), its lower bound {side} "
        f"the margin of {100 * margin:.1f}"
    )
