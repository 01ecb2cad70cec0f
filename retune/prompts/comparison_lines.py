"""A comparison as lines for people: the same in the terminal and on the page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from retune.prompts.measure import CONFIDENCE, Comparison, Measures, Spread

NOTHING = "-"


@dataclass(frozen=True)
class Reading:
    """One measure of both templates.

    Attributes:
        before: of the committed template, as text.
        judgement: only if the data can tell a change from chance.
        share: before and after as fractions for a bar, if the measure is a share.
    """

    name: str
    before: str
    after: str
    change: str
    judgement: Literal["better", "worse", ""] = ""
    share: tuple[float, float] | None = None
    meaning: str = ""


def readings(comparison: Comparison) -> list[Reading]:
    """Every measure, yield first."""

    def line(name: str, meaning: str, of: Callable[[Measures], Any], show: Callable[[Any], str]) -> Reading:
        before, after = of(comparison.before), of(comparison.after)
        known = before is not None and after is not None
        old, new = (NOTHING if value is None else show(value) for value in (before, after))
        return Reading(name, old, new, _relative(before, after) if known else "", meaning=meaning)

    def share(name: str, meaning: str, of: Callable[[Measures], float | None]) -> Reading:
        before, after = of(comparison.before), of(comparison.after)
        if before is None or after is None:
            old, new = (NOTHING if value is None else f"{value:.1%}" for value in (before, after))
            return Reading(name, old, new, "", meaning=meaning)
        change = f"{100 * (after - before):+.1f} points"
        return Reading(name, f"{before:.1%}", f"{after:.1%}", change, "", (before, after), meaning)

    return [
        _yield(comparison),
        line("rows kept", "after parsing and judging", lambda m: m.kept_rows, "{:,.0f}".format),
        share("judged rows that pass", "of the rows that the judges saw", lambda m: m.passed),
        line("words in a kept row", _PERCENTILES, lambda m: m.words, _spread),
        line("tokens in an answer", _PERCENTILES, lambda m: m.completion_tokens, _spread),
        line("tokens in a request", "the prompt, on average", lambda m: m.prompt_tokens, "{:,.1f}".format),
        line("tokens for a kept row", _COST, lambda m: m.tokens_per_kept_row, "{:,.1f}".format),
        line("distinct words", "different ones as a share of all", lambda m: m.distinct_1, "{:.3f}".format),
        line("distinct word pairs", "different ones as a share of all", lambda m: m.distinct_2, "{:.3f}".format),
        line("self-similarity", _NEAREST, lambda m: m.self_similarity, "{:.3f}".format),
        share("near-duplicates", "validation would drop these", lambda m: m.near_duplicates),
    ]


_PERCENTILES = "median (tenth to ninetieth percentile)"
_COST = "prompt and answer of every request over the kept rows, without the judges' own tokens"
_NEAREST = "0: all rows differ, 1: each row has a copy"


def footnote(comparison: Comparison) -> str:
    """How many rows the measures of diversity are based on."""
    return (
        f"The last four are of the first {comparison.after.compared} kept rows of each template:"
        " they change with the number of rows."
    )


def sentence(comparison: Comparison) -> str:
    """The change in yield in one sentence that claims no more than the data show."""
    change = comparison.yield_change
    points = f"{100 * change.difference:+.1f} points ({_interval(comparison)})"
    if change.ci_low <= 0 <= change.ci_high:
        return f"The yield changes by {points}, which {comparison.after.requests} requests cannot tell from chance."
    return f"The edited template's yield is {'higher' if change.difference > 0 else 'lower'}: {points}."


def reasons(comparison: Comparison) -> list[tuple[str, int, int]]:
    """Rejected rows of both by rule, most first."""
    before, after = comparison.before.reasons, comparison.after.reasons
    counts = [(rule, before.get(rule, 0), after.get(rule, 0)) for rule in {*before, *after}]
    return sorted(counts, key=lambda count: (-count[1] - count[2], count[0]))


def _yield(comparison: Comparison) -> Reading:
    before, after, change = comparison.before, comparison.after, comparison.yield_change
    is_sure = change.ci_low > 0 or change.ci_high < 0
    return Reading(
        "yield",
        f"{before.yield_:.1%} ({before.kept_requests} of {before.requests})",
        f"{after.yield_:.1%} ({after.kept_requests} of {after.requests})",
        f"{100 * change.difference:+.1f} points ({_interval(comparison)}, p = {change.p_value:.2g})",
        ("better" if change.difference > 0 else "worse") if is_sure else "",
        (before.yield_, after.yield_),
        "requests that gave a kept row; the interval is of the paired difference",
    )


def _interval(comparison: Comparison) -> str:
    change = comparison.yield_change
    return f"{CONFIDENCE:.0%} interval {100 * change.ci_low:+.1f} to {100 * change.ci_high:+.1f}"


def _spread(spread: Spread) -> str:
    return f"{spread.median:.0f} ({spread.low:.0f} to {spread.high:.0f})"


def _relative(before: float | Spread, after: float | Spread) -> str:
    old, new = (value.median if isinstance(value, Spread) else value for value in (before, after))
    if old == new:
        return "0%"
    return NOTHING if not old else f"{(new - old) / old:+.0%}"
