"""Run a contract's rules over all rows as one Great Expectations checkpoint, and write its Data Docs."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from tasks.core.errors import ContractError
from tasks.validate.contracts.contract import Contract
from tasks.validate.contracts.expectations.classes import expectation_class, load_great_expectations
from tasks.validate.contracts.rule import Rule
from tasks.validate.data_docs import compile_templates_once, make_readable_offline
from tasks.validate.rows import contract_view

SITE = "data_docs"
SITE_CONFIG = {"class_name": "SiteBuilder", "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"}}
FILES = {"class_name": "TupleFilesystemStoreBackend"}
EVERY_ROW_KEYS = ("unexpected_list", "unexpected_index_list", "partial_unexpected_index_list", "unexpected_index_query")
SHOWN_CHARACTERS, SHOWN_ITEMS = 300, 20
"""Most characters of a value, and items of a list, in Data Docs and messages."""
SAMPLE = 1_000
"""The first values of a column, which show whether values repeat."""
COMPLETE = {"result_format": "COMPLETE", "return_unexpected_index_query": False}
OBSERVED = {"observed_value": "observed", "partial_unexpected_list": "unexpected", "partial_missing_list": "missing"}


@dataclass(frozen=True)
class RuleResult:
    """The result of one rule; ``success`` includes its ``mostly``.

    Attributes:
        failing: positions of the rows that break it, ascending; None where it judges the table, not rows.
        observed: what was found, for people.
        exception: why it could not run, or None.
    """

    rule: Rule
    success: bool
    failing: NDArray[np.int64] | None
    observed: str
    exception: str | None


def run_checkpoint(contract: Contract, rows: pa.Table | pd.DataFrame, data_docs: Path | None) -> list[RuleResult]:
    """Check every rule on every row; the failing rows come from Great Expectations' own results.

    Args:
        rows: the table; only the contract's columns are read. The index of a data frame does not matter.
        data_docs: the folder to write Data Docs to, which begin at its ``index.html``; None: write none.

    Returns:
        one result per rule, in the contract's order. A rule on a column that the table lacks has an ``exception``.

    Raises ContractError if a data frame has two columns of a name that a rule reads.
    """
    gx = load_great_expectations()
    frame = as_frame(rows, contract.reads)
    context = gx.get_context(mode="ephemeral")
    results = _results(gx, context, contract, frame)
    if data_docs is not None:
        compile_templates_once()
        folder = str(data_docs).replace("$", "\\$")  # else $NAME in a path is a variable of the environment
        context.add_data_docs_site(SITE, {**SITE_CONFIG, "store_backend": {**FILES, "base_directory": folder}})
        context.build_data_docs([SITE])
        make_readable_offline(data_docs)
    return results


def _results(gx: Any, context: Any, contract: Contract, frame: pd.DataFrame) -> list[RuleResult]:
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context.variables.progress_bars = ProgressBarsConfig(globally=False, metric_calculations=False)
    results: dict[int, RuleResult] = {}
    _read_results(context.validation_results_store, contract, tuple(frame.columns), results)
    checkpoint = _checkpoint(gx, context, contract)
    # Python's strings, not Arrow's: Arrow's regular expressions have neither look-around nor Unicode classes.
    with warnings.catch_warnings(), pd.option_context("mode.string_storage", "python"):
        warnings.filterwarnings("ignore", "This pattern is interpreted as a regular expression", UserWarning)
        checkpoint.run(batch_parameters={"dataframe": frame})
    return [results[number] for number in range(len(contract.rules))]


def _checkpoint(gx: Any, context: Any, contract: Contract) -> Any:
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
        gx.Checkpoint(name="contract", validation_definitions=[validation], result_format=COMPLETE)
    )


def _read_results(store: Any, contract: Contract, columns: Sequence[str], results: dict[int, RuleResult]) -> None:
    """Read each result before it is stored: storing a million failing rows takes minutes, so the store gets samples."""
    keep: Callable[..., Any] = store.set

    def read_and_keep(key: Any, value: Any, **options: Any) -> Any:
        for result in value.results:
            number = result.expectation_config.meta["rule"]
            results[number] = _rule_result(contract.rules[number], result, columns)
            result.result = _fit_to_show(result.result or {})
            result.exception_info = _shortened(result.exception_info)
        return keep(key, value, **options)

    store.set = read_and_keep


def as_frame(rows: pa.Table | pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """These columns as Python objects, missing values as None, indexed by position.

    Raises ContractError if a data frame has two columns of one of these names.
    """
    if isinstance(rows, pa.Table):
        view = contract_view(rows, columns)
        arrays = {name: _values(view[name]) for name in view.column_names}
        return pd.DataFrame({name: _series(values) for name, values in arrays.items()}, index=range(rows.num_rows))
    there = [name for name in columns if name in rows.columns]
    if twice := [name for name in there if list(rows.columns).count(name) > 1]:
        raise ContractError(f"Two columns have the name {twice[0]!r}", where="the table", remedy="rename one of them")
    return pd.DataFrame({name: _series(rows[name]) for name in there}, index=range(len(rows)))


def _values(column: pa.ChunkedArray) -> NDArray[Any]:
    """A column's values. In a column that repeats values, such as labels, equal ones are one object."""
    found: NDArray[Any]
    if pa.types.is_integer(column.type) and column.null_count:
        found = np.array(column.to_pylist(), dtype=object)  # a double, which has NaN, does not hold every integer
        return found
    sample = column.slice(0, SAMPLE)
    if not pa.types.is_large_string(column.type) or 2 * len(sample.unique()) > len(sample):
        found = column.to_numpy()
        return found
    encoded = column.dictionary_encode().combine_chunks()
    texts = np.array([*encoded.dictionary.to_pylist(), None], dtype=object)
    found = texts[encoded.indices.fill_null(len(texts) - 1).to_numpy()]
    return found


def _series(values: pd.Series | NDArray[Any]) -> pd.Series:
    if pd.api.types.is_numeric_dtype(values.dtype) and isinstance(values.dtype, np.dtype):
        return pd.Series(np.asarray(values))
    objects = np.asarray(values, dtype=object)
    is_missing = pd.isna(objects)
    if is_missing.any():
        objects = objects.copy()
        objects[is_missing] = None
    return pd.Series(objects, dtype=object)


def _rule_result(rule: Rule, result: Any, columns: Sequence[str]) -> RuleResult:
    found: dict[str, Any] = result.result or {}
    positions = found.get("unexpected_index_list")
    is_row_level = positions is not None or "element_count" in found
    failing = np.unique(np.asarray(positions or [], dtype=np.int64)) if is_row_level else None
    lacking = [name for name in rule.reads if name not in columns]
    exception = _exception(result.exception_info)
    if exception and lacking:
        exception = f"there is no column {lacking[0]!r}"
    return RuleResult(rule, bool(result.success), failing, _observed(found), exception)


def _observed(found: Mapping[str, Any]) -> str:
    if "element_count" in found and "unexpected_count" in found:
        return f"{found['unexpected_count']} of {found['element_count']} rows break it"
    seen = [f"{words}: {_shortened(found[key])}" for key, words in OBSERVED.items() if found.get(key) is not None]
    return ", ".join(seen) or ("there is nothing to observe" if "observed_value" in found else "it does not hold")


def _exception(info: Mapping[str, Any] | None) -> str | None:
    """What an expectation raised: GX has one record, or one for each metric that failed."""
    records = [info or {}, *(value for value in (info or {}).values() if isinstance(value, Mapping))]
    messages = [record.get("exception_message") or "raised" for record in records if record.get("raised_exception")]
    return _shortened(str(messages[0])) if messages else None


def _fit_to_show(found: Mapping[str, Any]) -> dict[str, Any]:
    """A result that is short enough for a page."""
    left_out = set(EVERY_ROW_KEYS)
    if "unexpected_percent" not in found:  # a rule on the table, which Data Docs would take for one on rows, and fail
        left_out |= {"unexpected_count", "partial_unexpected_list"}
    return {name: _shortened(value) for name, value in found.items() if name not in left_out}


def _shortened(value: Any) -> Any:
    if isinstance(value, str) and len(value) > SHOWN_CHARACTERS:
        return f"{value[:SHOWN_CHARACTERS]}…"
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, list | tuple):
        return [_shortened(item) for item in value[:SHOWN_ITEMS]]
    return {name: _shortened(item) for name, item in value.items()} if isinstance(value, dict) else value
