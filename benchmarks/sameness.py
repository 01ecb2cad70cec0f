"""Count duplicates and leaks in real texts: .venv/bin/python -m benchmarks.sameness [--data FOLDER] [--pairs FILE]

The settings are the recipe's defaults. The texts ship with the project; if --data names a folder with CLINC150 and
Alpaca, these are used too: CLINC150's training messages against its test messages, half of Alpaca's instructions and of
the shipped texts against the other half (as in benchmarks/leaks.py). Duplicates are counted among all texts of a
corpus, so that the counts do not depend on the order of the removals. --pairs writes every pair, to be looked at. The
script also runs on earlier versions: PYTHONPATH=OLD python benchmarks/sameness.py.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasks.validate.config import Contamination, NearDuplicates
from tasks.validate.contamination.contamination import EvaluationTexts, find_contamination
from tasks.validate.contamination.whole_texts import WholeTexts
from tasks.validate.duplicates.duplicates import find_duplicates

SHIPPED = Path(__file__).resolve().parents[1] / "deployments" / "recipes" / "data"
Pair = tuple[str, str, str]


def main() -> None:
    """Parse the command line and print the table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=Path, help="a folder with clinc150/ and alpaca_demo/")
    options.add_argument("--pairs", type=Path, help="write every pair: corpus, kind, text, the other text (CSV)")
    given = options.parse_args()
    kinds = ("exact", "near", "copy", "part")
    found: list[tuple[str, Pair]] = []
    print(f"| texts | rows | evaluation texts | {' | '.join(kinds)} |\n|---|---|---|{'---|' * len(kinds)}")
    for name, rows, evaluations in corpora(given.data):
        pairs = [*duplicates([*rows, *([] if name == "CLINC150" else evaluations)]), *leaks(rows, evaluations)]
        counts = Counter(kind for kind, _, _ in pairs)
        cells = (f"{counts[kind]:,}" for kind in kinds)
        print(f"| {name} | {len(rows):,} | {len(evaluations):,} | {' | '.join(cells)} |")
        found += [(name, pair) for pair in pairs]
    if given.pairs:
        with given.pairs.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows((name, *pair) for name, pair in found)


def corpora(data: Path | None) -> Iterator[tuple[str, list[str], list[str]]]:
    """Name, training texts and evaluation texts of each corpus."""
    for path in sorted(SHIPPED.iterdir()):
        texts = [question(row) for row in read(path)]
        yield path.name, texts[::2], texts[1::2]
    if data is not None:
        rows, tests = ([row["text"] for row in read(data / "clinc150" / f"{name}.csv")] for name in ("train", "test"))
        yield "CLINC150", rows, tests
        alpaca = json.loads((data / "alpaca_demo" / "alpaca_en_demo.json").read_text(encoding="utf-8"))
        texts = ["\n".join(filter(None, (row["instruction"], row["input"]))) for row in alpaca]
        yield "Alpaca", texts[::2], texts[1::2]


def question(row: dict[str, Any]) -> str:
    """What the user says, or the longest text of a row that is not a conversation."""
    if "messages" in row:
        return str(row["messages"][0]["content"])
    return str(max(row.values(), key=len))


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a CSV or JSONL file."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file)) if path.suffix == ".csv" else list(map(json.loads, file))


def duplicates(texts: list[str]) -> list[Pair]:
    """Kind, the text that goes, and the one that stays."""
    found = find_duplicates(texts, NearDuplicates())
    pairs = zip(found.kind.tolist(), found.position.tolist(), found.original.tolist(), strict=True)
    return [(kind, texts[position], texts[original]) for kind, position, original in pairs]


def leaks(rows: list[str], evaluations: list[str]) -> list[Pair]:
    """Rule, row and evaluation text; ``copy``: the row as a whole is nearly the text, ``part``: it has enough of it."""
    config = Contamination()
    sets = [EvaluationTexts("evaluation", [str(number) for number in range(len(evaluations))], evaluations)]
    found = find_contamination(rows, [""] * len(rows), sets, config)
    copies = set(WholeTexts(evaluations, config.shingle, config.similarity).find(rows).rows.tolist())
    pairs = zip(found.positions.tolist(), found.evaluation_texts, strict=True)
    return [("copy" if row in copies else "part", rows[row], text) for row, text in pairs]


if __name__ == "__main__":
    main()
