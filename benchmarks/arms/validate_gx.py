"""One round of benchmarks/validate.py through bare Great Expectations: python -m benchmarks.arms.validate_gx FILE

The rules of benchmarks/contracts/messages.odcs.yaml as one suite in one checkpoint on the frame, with SUMMARY results:
a verdict and counts; the failing rows are not named. Prints one JSON line: the rows, how many breaches were counted (a
row that breaks two rules counts twice), and the seconds from the context to the verdict. Its import is not counted.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from pathlib import Path

import pandas as pd

from benchmarks.planted import FIELDS
from benchmarks.rows import CONTRACT
from tasks.validate.contracts.columns import contract_columns
from tasks.validate.contracts.contract import read_contract
from tasks.validate.contracts.expectations.classes import expectation_class, load_great_expectations


def main() -> None:
    rows = pd.read_parquet(Path(sys.argv[1])).astype(object)
    rows = rows.where(rows.notna(), None)
    contract = read_contract(CONTRACT, contract_columns(FIELDS))
    gx = load_great_expectations()
    classes = [expectation_class(rule.expectation) for rule in contract.rules]
    warnings.filterwarnings("ignore", "This pattern is interpreted as a regular expression", UserWarning)
    started = time.perf_counter()
    context = gx.get_context(mode="ephemeral")
    suite = context.suites.add(
        gx.ExpectationSuite(
            name="rules",
            expectations=[one(**rule.arguments) for one, rule in zip(classes, contract.rules, strict=True)],
        )
    )
    asset = context.data_sources.add_pandas("rows").add_dataframe_asset("rows")
    validation = context.validation_definitions.add(
        gx.ValidationDefinition(name="rows", data=asset.add_batch_definition_whole_dataframe("all"), suite=suite)
    )
    checkpoint = context.checkpoints.add(
        gx.Checkpoint(name="rules", validation_definitions=[validation], result_format="SUMMARY")
    )
    outcome = checkpoint.run(batch_parameters={"dataframe": rows})
    seconds = time.perf_counter() - started
    results = [result for found in outcome.run_results.values() for result in found.results]
    if raised := [result for result in results if _raised(result.exception_info)]:
        raise SystemExit(f"{raised[0].expectation_config.type} raised: {raised[0].exception_info}")
    breaches = sum(result.result.get("unexpected_count", 0) for result in results)
    print(json.dumps({"rows": len(rows), "failing": breaches, "seconds": seconds}))


def _raised(info: dict[str, object] | None) -> bool:
    """Whether an expectation raised: GX gives one record, or one for every metric that failed."""
    records = [info or {}, *((info or {}).values())]
    return any(isinstance(record, dict) and record.get("raised_exception") for record in records)


if __name__ == "__main__":
    main()
