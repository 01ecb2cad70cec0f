"""One round of benchmarks/validate.py through Pydantic, row by row: python validate_pydantic.py rows.parquet

Checks the rules of benchmarks/contracts/messages.odcs.yaml; ids are compared in a set beside the model. Prints one JSON
line: the rows, how many broke a rule, and the seconds that the loop took.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
from pydantic import AfterValidator, BaseModel, Json, StringConstraints, ValidationError

THREE_WORDS = re.compile(r"^\s*(?:\S+\s+){2,}\S")
LETTERS = re.compile(r"[^\W\d_]{2}")
CONTROL_TOKENS = re.compile(r"<\|(?:im_start|im_end|endoftext)\|>")


def fit_text(text: str) -> str:
    """The text, if it has words, letters and nothing that does not belong there."""
    if not THREE_WORDS.search(text) or not LETTERS.search(text):
        raise ValueError("too few words or letters")
    if CONTROL_TOKENS.search(text) or "\ufffd" in text:
        raise ValueError("a control token or a replacement character")
    return text


class Turn(BaseModel):
    role: Literal["system", "user", "assistant"]
    content: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


def sound(turns: list[Turn]) -> list[Turn]:
    """The conversation, if the roles take turns and the assistant has the last word."""
    roles = [turn.role for turn in turns]
    spoken = roles[1:] if roles[:1] == ["system"] else roles
    if not spoken or spoken != ["user", "assistant"] * (len(spoken) // 2):
        raise ValueError("the roles do not take turns")
    return turns


class Row(BaseModel):
    row_id: str
    document_id: str
    origin: Literal["collected", "generated"]
    message: Annotated[str, StringConstraints(min_length=20, max_length=400), AfterValidator(fit_text)]
    queue: Literal["cards", "accounts", "bills", "credit", "flights", "dining", "vehicles", "payroll"]
    messages: Annotated[Json[list[Turn]], AfterValidator(sound)]


def main() -> None:
    rows = pd.read_parquet(Path(sys.argv[1])).astype(object)
    rows = rows.where(rows.notna(), None)
    started = time.perf_counter()
    ids = Counter(rows["row_id"])
    failing = set()
    for number, row in enumerate(rows.to_dict("records")):
        try:
            Row.model_validate(row)
        except ValidationError:
            failing.add(number)
        if ids[row["row_id"]] > 1:
            failing.add(number)
    seconds = time.perf_counter() - started
    print(json.dumps({"rows": len(rows), "failing": len(failing), "seconds": seconds}))


if __name__ == "__main__":
    main()
