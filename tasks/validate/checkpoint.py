"""Run a contract's rules over all rows as one Great Expectations checkpoint, and keep its Data Docs."""

from __future__ import annotations

import re
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.validate.contract import Contract, Rule
from tasks.validate.expectations import expectation_class, load_great_expectations

SITE = Path("gx", "uncommitted", "data_docs", "local_site")
EVERY_ROW_KEYS = ("unexpected_list", "unexpected_index_list", "partial_unexpected_index_list", "unexpected_index_query")


OBSERVED = {
    "observed_value": "observed",
    "partial_unexpected_list": "unexpected",
    "partial_missing_list": "missing",
}


@dataclass(frozen=True)
class Finding:
    """What one rule found.

    Attributes:
        rule: the rule.
        success: whether it holds, its ``mostly`` included.
        failing: positions of the rows that break it, ascending; None where it judges the table, not rows.
        observed: what it saw, for people.
        exception: why it could not be run, or None.
    """

    rule: Rule
    success: bool
    failing: NDArray[np.int64] | None
    observed: str
    exception: str | None


def run_checkpoint(contract: Contract, rows: pd.DataFrame, data_docs: Path) -> list[Finding]:
    """Check every rule on every row.

    Args:
        contract: the rules.
        rows: the table, any index; only the contract's columns are read.
        data_docs: the folder that Data Docs are written to; its ``index.html`` is the entrance.

    Returns:
        one finding a rule, in the contract's order.
    """
    gx = load_great_expectations()
    data_docs.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".gx-", dir=data_docs.parent) as project:
        context = gx.get_context(mode="file", project_root_dir=project)
        _be_quiet(context)
        checkpoint = _checkpoint(gx, context, contract)
        # Python's strings, not Arrow's: Arrow's regular expressions know neither look-around nor Unicode classes.
        with warnings.catch_warnings(), pd.option_context("mode.string_storage", "python"):
            warnings.filterwarnings("ignore", "This pattern is interpreted as a regular expression", UserWarning)
            outcome = checkpoint.run(batch_parameters={"dataframe": _plain_frame(rows)})
        findings: dict[int, Finding] = {}
        for identifier, validation in outcome.run_results.items():
            for result in validation.results:
                number = result.expectation_config.meta["rule"]
                findings[number] = _finding(contract.rules[number], result)
                _keep_samples_only(result.result)
            context.validation_results_store.set(identifier, validation)
        context.build_data_docs()
        shutil.move(Path(project) / SITE, data_docs)
    return [findings[number] for number in range(len(contract.rules))]


def _be_quiet(context: Any) -> None:
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context.variables.progress_bars = ProgressBarsConfig(globally=False, metric_calculations=False)


def _checkpoint(gx: Any, context: Any, contract: Contract) -> Any:
    """The contract as one suite, in one validation, in one checkpoint.

    COMPLETE without index columns gives the failing rows by their position, and takes time linear in the rows.
    """
    expectations = [
        expectation_class(rule.expectation)(
            **rule.arguments, severity=rule.severity, notes=rule.name, meta={"rule": number}
        )
        for number, rule in enumerate(contract.rules)
    ]
    asset = context.data_sources.add_pandas("rows").add_dataframe_asset("rows")
    suite = context.suites.add(
        gx.ExpectationSuite(name=re.sub(r"[^\w-]+", "-", contract.name), expectations=expectations)
    )
    validation = context.validation_definitions.add(
        gx.ValidationDefinition(name="rows", data=asset.add_batch_definition_whole_dataframe("all"), suite=suite)
    )
    return context.checkpoints.add(
        gx.Checkpoint(name="contract", validation_definitions=[validation], result_format={"result_format": "COMPLETE"})
    )


def _plain_frame(rows: pd.DataFrame) -> pd.DataFrame:
    """The same values as Python objects, missing ones as None, on an index of positions."""
    plain = rows.reset_index(drop=True)
    texts = [name for name in plain.columns if not pd.api.types.is_numeric_dtype(plain[name])]
    objects = {name: plain[name].astype(object).where(plain[name].notna(), None) for name in texts}
    return plain.assign(**objects)


def _finding(rule: Rule, result: Any) -> Finding:
    found: dict[str, Any] = result.result or {}
    positions = found.get("unexpected_index_list")
    is_row_level = positions is not None or "element_count" in found
    failing = np.unique(np.asarray(positions or [], dtype=np.int64)) if is_row_level else None
    return Finding(rule, bool(result.success), failing, _observed(found), _exception(result.exception_info))


def _observed(found: Mapping[str, Any]) -> str:
    if "element_count" in found and "unexpected_count" in found:
        return f"{found['unexpected_count']} of {found['element_count']} rows break it"
    seen = [f"{words}: {found[key]}" for key, words in OBSERVED.items() if found.get(key) is not None]
    return ", ".join(seen) or "it does not hold"


def _exception(info: Mapping[str, Any] | None) -> str | None:
    """What an expectation raised: GX gives one record, or one for every metric that failed."""
    records = [info or {}, *(value for value in (info or {}).values() if isinstance(value, Mapping))]
    messages = [record.get("exception_message") or "raised" for record in records if record.get("raised_exception")]
    return str(messages[0]) if messages else None


def _keep_samples_only(found: dict[str, Any]) -> None:
    """Make a result fit to show: a page with a million row numbers helps nobody."""
    for key in EVERY_ROW_KEYS:
        found.pop(key, None)
    if "unexpected_percent" not in found:  # a rule on the table: Data Docs would take it for one on rows, and fail
        found.pop("unexpected_count", None)
        found.pop("partial_unexpected_list", None)
