"""Find planted leaks of evaluation texts: .venv/bin/python -m benchmarks.contamination [--data FOLDER]

Leaks of known kinds are planted into real training rows (benchmarks/leaks.py), and rows that only share a phrase with
an evaluation text (traps). Each method decides which rows are leaks: this stage at its defaults, and the usual
practice, where any shared run of 8 or of 13 words is a hit. The output is the share of each kind that is found
(recall), and the share of other rows that is reported by mistake. --sweep also tries other settings, on the half of the
texts that is not reported. The texts ship with the project; if --data names a folder with CLINC150 and Alpaca, these
are used too. Background rows count as clean, although real data have some leaks.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.leaks import NO_LEAKS, Corpus, Row, halves, plant, read_corpora
from tasks.validate.config import Contamination
from tasks.validate.contamination.contamination import EvaluationTexts, conversation_text, find_contamination
from tasks.validate.contamination.word_runs import WordRuns

Method = Callable[[Sequence[Row], Sequence[str]], set[int]]


def ours(settings: Contamination) -> Method:
    """This stage's search."""

    def find(rows: Sequence[Row], texts: Sequence[str]) -> set[int]:
        sets = [EvaluationTexts("evaluation", [str(number) for number in range(len(texts))], texts)]
        user, assistant = ([getattr(row, name) for row in rows] for name in ("user", "assistant"))
        return set(find_contamination(user, assistant, sets, settings).positions.tolist())

    return find


def any_run(words: int) -> Method:
    """A hit is any run of so many words that is in an evaluation text too."""

    def find(rows: Sequence[Row], texts: Sequence[str]) -> set[int]:
        row_texts = [conversation_text(row.user, row.assistant) for row in rows]
        return set(WordRuns(texts, words).find(row_texts, 0.0).rows.tolist())

    return find


def shares(method: Method, rows: Sequence[Row], texts: Sequence[str]) -> dict[str, tuple[int, int]]:
    """By kind of row, how many were hit, and how many there are."""
    hit = method(rows, texts)
    kinds = dict.fromkeys(row.kind for row in rows)
    return {
        kind: (
            sum(row.kind == kind and number in hit for number, row in enumerate(rows)),
            sum(row.kind == kind for row in rows),
        )
        for kind in kinds
    }


def recall_and_alarms(found: dict[str, tuple[int, int]]) -> tuple[float, float, float]:
    """Mean recall over kinds of leaks, share of the traps hit, and share of the background hit."""
    leaks = [hits / rows for kind, (hits, rows) in found.items() if kind not in NO_LEAKS and rows]
    background, *traps = (found.get(kind, (0, 0)) for kind in NO_LEAKS)
    trapped, all_traps = (sum(numbers) for numbers in zip(*traps, strict=True))
    return float(np.mean(leaks)), trapped / max(all_traps, 1), background[0] / max(background[1], 1)


def sweep(corpus: Corpus, each: int, seed: int) -> None:
    """Other settings, on one half."""
    rows = plant(corpus, each, seed)
    print(f"\n{corpus.name}: mean recall, traps hit, background hit, on the half that is not reported\n")
    for ngram, threshold, short in itertools.product((4, 5, 8), (0.4, 0.5, 0.6), (0.6, 0.7, 0.8)):
        settings = Contamination(ngram=ngram, threshold=threshold, similarity=short)
        numbers = recall_and_alarms(shares(ours(settings), rows, corpus.evaluations))
        print(f"ngram {ngram}, threshold {threshold}, short {short}: " + ", ".join(f"{one:.3f}" for one in numbers))


def report(corpus: Corpus, each: int, seed: int) -> None:
    """The table of one corpus."""
    rows = plant(corpus, each, seed)
    methods = {"this stage": ours(Contamination()), "8-gram": any_run(8), "13-gram": any_run(13)}
    found = {name: shares(method, rows, corpus.evaluations) for name, method in methods.items()}
    print(f"\n{corpus.name}: {len(corpus.evaluations):,} evaluation texts\n")
    print(f"| rows | planted | {' | '.join(methods)} |\n|---|---|{'---|' * len(methods)}")
    for kind, (_, count) in found["this stage"].items():
        cells = (f"{found[name][kind][0] / count:.3f}" for name in methods)
        print(f"| {kind} | {count:,} | {' | '.join(cells)} |")
    for name, by_kind in found.items():
        leaks = sum(hits for kind, (hits, _) in by_kind.items() if kind not in NO_LEAKS)
        hits = sum(hits for hits, _ in by_kind.values())
        print(f"{name}: precision {leaks / max(hits, 1):.3f} ({hits - leaks} of {hits} hits are no planted leak)")


def main() -> None:
    """Parse the command line and print the tables."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=Path, help="a folder with clinc150/ and alpaca_demo/")
    options.add_argument("--each", type=int, default=200, help="rows of each kind of leak and trap, at most")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--sweep", action="store_true", help="also try other settings on the other half")
    given = options.parse_args()
    for corpus in read_corpora(given.data, given.seed):
        tried, reported = halves(corpus, given.seed)
        if given.sweep:
            sweep(tried, given.each, given.seed)
        report(reported, given.each, given.seed)


if __name__ == "__main__":
    main()
