"""Measure the trials of a template, and how the trials of two templates on the same requests differ."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from retune.prompts.trials import Trial
from tasks.evaluate.statistics import Difference, Interval, paired_accuracy, wilson
from tasks.validate.config import NearDuplicates
from tasks.validate.drift.diversity import WordCodes, distinct, self_similarity
from tasks.validate.drift.size_free_diversity import words
from tasks.validate.duplicates.duplicates import find_duplicates

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Spread:
    """The median of some lengths, and the tenth and ninetieth percentile."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Measures:
    """Measures of a template's trials; rates are fractions, None if there is no data.

    Attributes:
        kept_requests: requests that gave at least one kept row.
        yield_: kept requests / requests; its interval is Wilson's, at :data:`CONFIDENCE`.
        judged, passed: rows that judges saw, and the share of them that every judge passed.
        completion_tokens, prompt_tokens: per answer; per request, on average.
        tokens: in and out, of all requests, without those of judges.
        compared: kept rows that the measures below are based on: the smaller number of both templates, because all four
            change with the number of rows.
        distinct_1, distinct_2: distinct words / all words; the same for pairs of neighbouring words.
        self_similarity: mean Jaccard similarity of a row to the nearest other row.
        near_duplicates: share of rows that repeat an earlier row, as the recipe's validation counts it.
    """

    requests: int
    kept_requests: int
    yield_: float
    yield_interval: Interval
    rows: int
    kept_rows: int
    judged: int
    passed: float | None
    reasons: dict[str, int]
    words: Spread | None
    completion_tokens: Spread | None
    prompt_tokens: float | None
    tokens: int
    tokens_per_kept_row: float | None
    compared: int
    distinct_1: float | None
    distinct_2: float | None
    self_similarity: float | None
    near_duplicates: float | None


@dataclass(frozen=True)
class Comparison:
    """Two templates on the same documents, with the same seeds; ``yield_change`` is paired by request."""

    before: Measures
    after: Measures
    yield_change: Difference


def compare(before: Sequence[Trial], after: Sequence[Trial], near: NearDuplicates) -> Comparison:
    """Measure both, and the difference in yield between paired requests.

    ``after``: trials of the same documents and indices, in the same order. ``near``: when two rows count as duplicates,
    as in the recipe's validation.
    """
    pairs = [(trial.document_id, trial.index) for trial in before]
    if pairs != [(trial.document_id, trial.index) for trial in after]:
        raise ValueError("the trials of the two templates are not of the same documents")
    compared = min(sum(len(trial.kept) for trial in side) for side in (before, after))
    change = paired_accuracy([_kept(trial) for trial in after], [_kept(trial) for trial in before], CONFIDENCE)
    return Comparison(measure(before, near, compared), measure(after, near, compared), change)


def measure(trials: Sequence[Trial], near: NearDuplicates, compared: int | None = None) -> Measures:
    """Measure the trials of one template.

    Args:
        trials: at least one, in the plan's order.
        near: when two rows count as duplicates.
        compared: on how many kept rows to measure diversity; None: on all.
    """
    rows = [row for trial in trials for row in trial.rows]
    kept = [row.text for row in rows if row.is_kept]
    judged = [row for row in rows if row.judgements]
    kept_requests = round(sum(map(_kept, trials)))
    answered = [trial for trial in trials if trial.prompt_tokens]
    tokens = sum((trial.prompt_tokens or 0) + trial.completion_tokens for trial in trials)
    shown = kept[:compared]
    return Measures(
        requests=len(trials),
        kept_requests=kept_requests,
        yield_=kept_requests / len(trials),
        yield_interval=wilson(kept_requests, len(trials), CONFIDENCE),
        rows=len(rows),
        kept_rows=len(kept),
        judged=len(judged),
        passed=_share(sum(all(judgement.passed for judgement in row.judgements) for row in judged), len(judged)),
        reasons=dict(Counter(row.rule.partition(":")[0] for row in rows if row.rule is not None).most_common()),
        words=_spread([len(words(text)) for text in kept]),
        completion_tokens=_spread([trial.completion_tokens for trial in answered]),
        prompt_tokens=statistics.fmean(trial.prompt_tokens or 0 for trial in answered) if answered else None,
        tokens=tokens,
        tokens_per_kept_row=_share(tokens, len(kept)),
        compared=len(shown),
        distinct_1=distinct(WordCodes(shown), 1),
        distinct_2=distinct(WordCodes(shown), 2),
        self_similarity=self_similarity(shown),
        near_duplicates=_share(len(find_duplicates(shown, near)), len(shown)),
    )


def _kept(trial: Trial) -> float:
    return 1.0 if trial.kept else 0.0


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _spread(lengths: Sequence[int]) -> Spread | None:
    if not lengths:
        return None
    if len(lengths) == 1:
        return Spread(lengths[0], lengths[0], lengths[0])
    tenths = statistics.quantiles(lengths, n=10, method="inclusive")
    return Spread(statistics.median(lengths), tenths[0], tenths[-1])
