"""One round of benchmarks/validate.py through this stage: python -m benchmarks.arms.validate_stage WHAT FILE

WHAT contract: ``run_checkpoint`` with its Data Docs, then ``write_quarantine``: every failing row with every rule it
broke and the values, on a table in memory as the stage holds it. What it takes to make the frame that Great
Expectations sees, conversations as JSON text among it, is in the seconds; its import is not. WHAT duplicates:
``find_duplicates`` on texts as they were written; normalising them is in the seconds. Prints one JSON line: the rows,
how many were rejected, and the seconds.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.planted import FIELDS
from benchmarks.rows import CONTRACT
from tasks.validate.checkpoint import run_checkpoint
from tasks.validate.config import NearDuplicates
from tasks.validate.contracts.columns import contract_columns
from tasks.validate.contracts.contract import read_contract
from tasks.validate.contracts.expectations.classes import load_great_expectations
from tasks.validate.duplicates.duplicates import find_duplicates
from tasks.validate.quarantine import contract_breaches, write_quarantine
from tasks.validate.rows import read_rows


def check_contract(rows: pa.Table) -> tuple[int, float]:
    """How many rows were quarantined, and the seconds."""
    contract = read_contract(CONTRACT, contract_columns(FIELDS))
    load_great_expectations()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "quarantine.parquet"
        started = time.perf_counter()
        findings = run_checkpoint(contract, rows, Path(folder) / "data_docs")
        write_quarantine(path, rows, contract_breaches(contract, findings), FIELDS)
        seconds = time.perf_counter() - started
        return pq.read_metadata(path).num_rows, seconds


def drop_duplicates(work: dict[str, object]) -> tuple[int, float]:
    """How many texts were dropped, and the seconds."""
    settings = {name: work[name] for name in ("threshold", "shingle", "permutations")}
    texts = pa.array(work["texts"])
    started = time.perf_counter()
    found = find_duplicates(texts, NearDuplicates.model_validate(settings))
    return len(found.position), time.perf_counter() - started


def main() -> None:
    what, path = sys.argv[1], Path(sys.argv[2])
    if what == "contract":
        table = read_rows(path, path, FIELDS, include_collected=False)
        rows, (rejected, seconds) = table.num_rows, check_contract(table)
    else:
        work = json.loads(path.read_text(encoding="utf-8"))
        rows, (rejected, seconds) = len(work["texts"]), drop_duplicates(work)
    print(json.dumps({"rows": rows, "failing": rejected, "seconds": seconds}))


if __name__ == "__main__":
    main()
