"""One round of benchmarks/validate.py through pandera: python validate_pandera.py rows.parquet

Checks the rules of benchmarks/contracts/messages.odcs.yaml lazily, so that every failing row is named. Prints one JSON
line: the rows, how many broke a rule, and the seconds that ``validate`` and the list of failing rows took.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pandas as pd
import pandera.pandas as pa
from pandera.errors import SchemaErrors

QUEUES = ["cards", "accounts", "bills", "credit", "flights", "dining", "vehicles", "payroll"]


def is_sound(conversation: str) -> bool:
    """Whether no turn is empty, the roles take turns, and the assistant has the last word."""
    turns = json.loads(conversation)
    roles = [turn["role"] for turn in turns]
    spoken = roles[1:] if roles[:1] == ["system"] else roles
    expected = ["user", "assistant"] * (len(spoken) // 2)
    return bool(spoken) and spoken == expected and all((turn["content"] or "").strip() for turn in turns)


SCHEMA = pa.DataFrameSchema(
    {
        "row_id": pa.Column(nullable=False, unique=True),
        "document_id": pa.Column(nullable=False),
        "origin": pa.Column(nullable=False, checks=pa.Check.isin(["collected", "generated"])),
        "message": pa.Column(
            nullable=False,
            checks=[
                pa.Check.str_length(20, 400),
                pa.Check.str_contains(r"^\s*(?:\S+\s+){2,}\S"),
                pa.Check.str_contains(r"[^\W\d_]{2}"),
                pa.Check(lambda texts: ~texts.str.contains(r"<\|(?:im_start|im_end|endoftext)\|>")),
                pa.Check(lambda texts: ~texts.str.contains("\ufffd")),
            ],
        ),
        "queue": pa.Column(nullable=False, checks=pa.Check.isin(QUEUES)),
        "messages": pa.Column(nullable=False, checks=pa.Check(is_sound, element_wise=True)),
    },
    checks=pa.Check(lambda rows: len(rows) >= 1),
)


def main() -> None:
    rows = pd.read_parquet(Path(sys.argv[1])).astype(object)
    rows = rows.where(rows.notna(), None)
    SCHEMA.validate(rows.head(10), lazy=False)  # the first call builds what later ones find
    started = time.perf_counter()
    failing = pd.Series(dtype="int64")
    try:
        SCHEMA.validate(rows, lazy=True)
    except SchemaErrors as errors:
        failing = errors.failure_cases["index"].dropna().astype("int64").drop_duplicates()
    seconds = time.perf_counter() - started
    print(json.dumps({"rows": len(rows), "failing": len(failing), "seconds": seconds}))


if __name__ == "__main__":
    main()
