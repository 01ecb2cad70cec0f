"""Training rows with planted leaks: real texts, seeded, and every leak known (for benchmarks/contamination.py)."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tasks.validate.normal_form import normalise

SHIPPED = Path(__file__).resolve().parents[1] / "deployments" / "recipes" / "data"
PARAPHRASES = Path(__file__).parent / "data" / "paraphrases.jsonl"
SHORT = 10
"""Texts of fewer words are the short kinds; this is the benchmark's own line, whatever the method takes for short."""
BACKGROUND, OPENING, PHRASE = "background", "trap: shared opening", "trap: short phrase in a long row"
NO_LEAKS = (BACKGROUND, OPENING, PHRASE)


@dataclass(frozen=True)
class Row:
    """A training row.

    Attributes:
        user: what the user says.
        assistant: what the assistant answers.
        kind: of leak, or one of ``NO_LEAKS``.
        of: number of the evaluation text that it leaks or borrows from; -1 for the background.
    """

    user: str
    assistant: str
    kind: str = BACKGROUND
    of: int = -1


@dataclass(frozen=True)
class Corpus:
    """Evaluation texts, and rows that a method must distinguish from their copies.

    Attributes:
        name: where the texts come from.
        rows: training rows.
        evaluations: evaluation texts.
        labels: of the evaluation texts, where rows' answers are labels too; else empty.
        paraphrases: paraphrases by hand, by number of the evaluation text.
    """

    name: str
    rows: tuple[Row, ...]
    evaluations: tuple[str, ...]
    labels: tuple[str, ...] = ()
    paraphrases: tuple[tuple[int, str], ...] = ()


def read_corpora(data: Path | None, seed: int) -> list[Corpus]:
    """The texts that ship with the project, and CLINC150 and Alpaca where a folder holds them."""
    corpora = [_shipped(seed)]
    if data is not None:
        corpora += [_clinc150(data / "clinc150"), _alpaca(data / "alpaca_demo" / "alpaca_en_demo.json", seed)]
    return corpora


def halves(corpus: Corpus, seed: int) -> tuple[Corpus, Corpus]:
    """The corpus in two, rows and evaluation texts alike: one to choose settings on, one to report."""
    draw = random.Random(f"{corpus.name} {seed}")
    texts, rows = list(range(len(corpus.evaluations))), list(corpus.rows)
    draw.shuffle(texts)
    draw.shuffle(rows)
    return _part(corpus, texts[::2], rows[::2]), _part(corpus, texts[1::2], rows[1::2])


def plant(corpus: Corpus, each: int, seed: int) -> list[Row]:
    """The corpus's rows that equal no evaluation text, and at most ``each`` rows of every kind of leak."""
    draw = random.Random(f"{corpus.name} {seed} leaks")
    equal = {normalise(text) for text in corpus.evaluations}
    rows = [row for row in corpus.rows if normalise(row.user) not in equal]
    texts = list(enumerate(corpus.evaluations))
    short = [(number, text) for number, text in texts if 3 <= len(text.split()) < SHORT]
    long = [(number, text) for number, text in texts if len(text.split()) >= SHORT]
    words = sorted({word for _, text in texts for word in text.split()})
    Change = Callable[[str], str]
    whole: dict[str, tuple[Sequence[tuple[int, str]], Change]] = {
        "exact": (long, str),
        "exact, other case and punctuation": (long, _in_other_form),
        "truncated to 50-80 %": (long, lambda text: _truncated(text, draw)),
        "edited: 1 word in 10": (long, lambda text: _edited(text, 0.1, words, draw)),
        "paraphrased by rule: 1 word in 4": (long, lambda text: _edited(text, 0.25, words, draw)),
        "short, exact": (short, str),
        "short, a word added": (short, lambda text: draw.choice(("please {}", "hi, {}", "{} thanks")).format(text)),
        "short, a word replaced": (short, lambda text: _edited(text, 0.0, words, draw)),
    }
    planted = [
        Row(change(text), draw.choice(rows).assistant, kind, number)
        for kind, (chosen, change) in whole.items()
        for number, text in draw.sample(chosen, min(each, len(chosen)))
    ]
    inside = [
        Row(draw.choice(rows).user, _inside(text, rows, draw), "hidden in a long answer", number)
        for number, text in draw.sample(long, min(each, len(long)))
    ]
    by_hand = [Row(text, draw.choice(rows).assistant, "paraphrased by hand", of) for of, text in corpus.paraphrases]
    return [*rows, *planted, *inside, *by_hand, *_traps(rows, short, long, each, draw)]


def _traps(
    rows: Sequence[Row],
    short: Sequence[tuple[int, str]],
    long: Sequence[tuple[int, str]],
    each: int,
    draw: random.Random,
) -> list[Row]:
    """Rows that share a common phrase with an evaluation text, and are no leaks."""
    openings = []
    for number, text in draw.sample(long, min(each, len(long))):
        words = text.split()
        opening = " ".join(words[: min(8, int(0.4 * len(words)))])
        openings.append(Row(f"{opening} {draw.choice(rows).user}", draw.choice(rows).assistant, OPENING, number))
    phrases = [(number, text) for number, text in short if len(text.split()) <= 5]
    inside = [
        Row(_inside(text, rows, draw), draw.choice(rows).assistant, PHRASE, number)
        for number, text in draw.sample(phrases, min(each, len(phrases)))
    ]
    return openings + inside


def _in_other_form(text: str) -> str:
    """Case and punctuation of plain words only: those of numbers, names and code carry meaning."""
    words = (word.upper().replace(",", " -") if word.rstrip(",.?!").isalpha() else word for word in text.split())
    return "  ".join(words) + " !!"


def _truncated(text: str, draw: random.Random) -> str:
    words = text.split()
    keep = round(draw.uniform(0.5, 0.8) * len(words))
    return " ".join(words[:keep] if draw.random() < 0.5 else words[-keep:])


def _edited(text: str, share: float, words: Sequence[str], draw: random.Random) -> str:
    """The text with a share of its words, at least one, replaced by any others."""
    own = text.split()
    for position in draw.sample(range(len(own)), max(1, round(share * len(own)))):
        own[position] = draw.choice(words)
    return " ".join(own)


def _inside(text: str, rows: Sequence[Row], draw: random.Random) -> str:
    """The text between others, of about sixty words or more."""
    around = [draw.choice(rows).user for _ in range(3)] + [draw.choice(rows).assistant]
    while sum(len(one.split()) for one in around) < 60:
        around.append(draw.choice(rows).user)
    around.insert(draw.randrange(1, len(around)), text)
    return "\n".join(around)


def _part(corpus: Corpus, texts: Sequence[int], rows: Sequence[Row]) -> Corpus:
    number_in_part = {number: position for position, number in enumerate(texts)}
    return replace(
        corpus,
        rows=tuple(rows),
        evaluations=tuple(corpus.evaluations[number] for number in texts),
        labels=tuple(corpus.labels[number] for number in texts) if corpus.labels else (),
        paraphrases=tuple((number_in_part[of], text) for of, text in corpus.paraphrases if of in number_in_part),
    )


def _shipped(seed: int) -> Corpus:
    """Messages and passages that ship with the project; those that were paraphrased are evaluation texts."""
    with (SHIPPED / "support_messages.csv").open(encoding="utf-8", newline="") as file:
        texts = {row["id"]: (row["message"], row["queue"]) for row in csv.DictReader(file)}
    passages = [json.loads(line) for line in (SHIPPED / "medical_passages.jsonl").read_text("utf-8").splitlines()]
    texts |= {row["id"]: (row["passage"], row["answer"]) for row in passages}
    by_hand = [json.loads(line) for line in PARAPHRASES.read_text(encoding="utf-8").splitlines()]
    others = sorted(texts.keys() - {row["id"] for row in by_hand})
    chosen = [row["id"] for row in by_hand] + random.Random(seed).sample(others, len(texts) // 2 - len(by_hand))
    return Corpus(
        "shipped messages and passages",
        tuple(Row(*texts[name]) for name in others if name not in chosen),
        tuple(texts[name][0] for name in chosen),
        paraphrases=tuple((number, row["paraphrase"]) for number, row in enumerate(by_hand)),
    )


def _clinc150(folder: Path) -> Corpus:
    def read(name: str) -> list[tuple[str, str]]:
        with (folder / name).open(encoding="utf-8", newline="") as file:
            return [(row["text"], row["intent"]) for row in csv.DictReader(file)]

    evaluations = read("test.csv")
    return Corpus(
        "CLINC150",
        tuple(Row(text, intent) for text, intent in read("train.csv")),
        tuple(text for text, _ in evaluations),
        tuple(intent for _, intent in evaluations),
    )


def _alpaca(file: Path, seed: int) -> Corpus:
    """Half of the rows as evaluation texts, the other half as training rows."""
    rows = [
        Row("\n".join(filter(None, (row["instruction"], row["input"]))), row["output"])
        for row in json.loads(file.read_text(encoding="utf-8"))
    ]
    random.Random(seed).shuffle(rows)
    return Corpus("Alpaca", tuple(rows[::2]), tuple(row.user for row in rows[1::2]))
