"""A comparison as lines that people read: the same in the terminal and on the page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from retune.prompts.measure import CONFIDENCE, Comparison, Measures, Spread

NOTHING = "-"


@dataclass(frozen=True)
class Reading:
    """One measure of both templates.

    Attributes:
        name: of the measure.
        before: of the committed template, as text.
        after: of the edited one.
        change: from the one to the other.
        judgement: only where the data can tell a change from chance.
        share: before and after as fractions for a bar, where it is a share.
        meaning: how the measure is to be read.
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
    one, other = comparison.before, comparison.after
    return [
        _yield(comparison),
        _number("rows kept", one, other, lambda m: m.kept_rows, "{:,.0f}", "after parsing and judging"),
        _share("judged rows that pass", one, other, lambda m: m.passed, "of the rows that the judges saw"),
        _spread("words in a kept row", one, other, lambda m: m.words),
        _spread("tokens in an answer", one, other, lambda m: m.completion_tokens),
        _number("tokens in a request", one, other, lambda m: m.prompt_tokens, "{:,.1f}", "the prompt, on average"),
        _number("tokens for a kept row", one, other, lambda m: m.tokens_per_kept_row, "{:,.1f}", _COST),
        _number("distinct words", one, other, lambda m: m.distinct_1, "{:.3f}", "different ones as a share of all"),
        _number(
            "distinct word pairs", one, other, lambda m: m.distinct_2, "{:.3f}", "different ones as a share of all"
        ),
        _number("self-similarity", one, other, lambda m: m.self_similarity, "{:.3f}", _NEAREST),
        _share("near-duplicates", one, other, lambda m: m.near_duplicates, "validation would drop these"),
    ]


_COST = "prompt and answer of every request over the kept rows; the judges' own tokens are not in it"
_NEAREST = "0: no row is like another, 1: each has a twin"


def footnote(comparison: Comparison) -> str:
    """On what the measures of diversity rest."""
    return (
        f"The last four are of the first {comparison.after.compared} kept rows of each template:"
        " they change with the number of rows."
    )


def sentence(comparison: Comparison) -> str:
    """What the yields say, in one sentence that promises no more than the data hold."""
    change = comparison.yield_change
    points = f"{100 * change.difference:+.1f} points ({_interval(comparison)})"
    if change.ci_low <= 0 <= change.ci_high:
        return f"The yield changes by {points}, which {comparison.after.requests} requests cannot tell from chance."
    return f"The edited template's yield is {'higher' if change.difference > 0 else 'lower'}: {points}."


def reasons(comparison: Comparison) -> list[tuple[str, int, int]]:
    """Rejected rows of both by rule, the commonest first."""
    one, other = comparison.before.reasons, comparison.after.reasons
    rules = sorted({*one, *other}, key=lambda rule: (-one.get(rule, 0) - other.get(rule, 0), rule))
    return [(rule, one.get(rule, 0), other.get(rule, 0)) for rule in rules]


def _yield(comparison: Comparison) -> Reading:
    one, other, change = comparison.before, comparison.after, comparison.yield_change
    sure = change.ci_low > 0 or change.ci_high < 0
    return Reading(
        "yield",
        _counted(one),
        _counted(other),
        f"{100 * change.difference:+.1f} points ({_interval(comparison)}, p = {change.p_value:.2g})",
        ("better" if change.difference > 0 else "worse") if sure else "",
        (one.yield_, other.yield_),
        "requests that gave a row which is kept; the interval is of the paired difference",
    )


def _counted(measures: Measures) -> str:
    return f"{measures.yield_:.1%} ({measures.kept_requests} of {measures.requests})"


def _interval(comparison: Comparison) -> str:
    change = comparison.yield_change
    return f"{CONFIDENCE:.0%} interval {100 * change.ci_low:+.1f} to {100 * change.ci_high:+.1f}"


def _share(name: str, one: Measures, other: Measures, of: Callable[[Measures], float | None], meaning: str) -> Reading:
    before, after = of(one), of(other)
    if before is None or after is None:
        shown = [NOTHING if value is None else f"{value:.1%}" for value in (before, after)]
        return Reading(name, shown[0], shown[1], "", meaning=meaning)
    change = f"{100 * (after - before):+.1f} points"
    return Reading(name, f"{before:.1%}", f"{after:.1%}", change, "", (before, after), meaning)


def _number(
    name: str, one: Measures, other: Measures, of: Callable[[Measures], float | None], form: str, meaning: str
) -> Reading:
    before, after = of(one), of(other)
    shown = [NOTHING if value is None else form.format(value) for value in (before, after)]
    change = "" if before is None or after is None else _relative(before, after)
    return Reading(name, shown[0], shown[1], change, meaning=meaning)


def _spread(name: str, one: Measures, other: Measures, of: Callable[[Measures], Spread | None]) -> Reading:
    before, after = of(one), of(other)
    shown = [
        NOTHING if spread is None else f"{spread.median:.0f} ({spread.low:.0f} to {spread.high:.0f})"
        for spread in (before, after)
    ]
    change = "" if before is None or after is None else _relative(before.median, after.median)
    return Reading(name, shown[0], shown[1], change, meaning="median (tenth to ninetieth percentile)")


def _relative(before: float, after: float) -> str:
    if before == after:
        return "0%"
    return NOTHING if not before else f"{(after - before) / before:+.0%}"
