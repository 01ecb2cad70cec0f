"""The expectation classes that a checkpoint runs: Great Expectations' own, and those made of Retune's checks.

Retune's classes are made at the first use, because Great Expectations takes seconds to import. Suites store them,
``mostly`` and severities apply, and Data Docs describe them, as for any other expectation.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from tasks.validate.contracts.expectations.characters import CHECKS as CHARACTERS
from tasks.validate.contracts.expectations.conversations import CHECKS as CONVERSATIONS
from tasks.validate.contracts.expectations.json_values import CHECKS as JSON_VALUES
from tasks.validate.contracts.expectations.labels import CHECKS as LABELS
from tasks.validate.contracts.expectations.languages import CHECKS as LANGUAGES
from tasks.validate.contracts.expectations.own import Arguments, RowCheck, TableCheck
from tasks.validate.contracts.expectations.phrases import CHECKS as PHRASES
from tasks.validate.contracts.expectations.repetition import CHECKS as REPETITION
from tasks.validate.contracts.expectations.tokens import CHECKS as TOKENS

if TYPE_CHECKING:
    import pandas as pd

_ALL: tuple[RowCheck | TableCheck, ...] = (
    *CHARACTERS,
    *CONVERSATIONS,
    *JSON_VALUES,
    *LABELS,
    *LANGUAGES,
    *PHRASES,
    *REPETITION,
    *TOKENS,
)
BETWEEN = "expect_column_values_to_be_between"
OWN = {check.name: check for check in _ALL}
"""Retune's own expectations, by name."""


def load_great_expectations() -> Any:
    """Import Great Expectations (seconds), with its telemetry off."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations

    return great_expectations


def expectation_class(expectation: str) -> Any:
    if expectation in OWN:
        return _own_classes()[expectation]
    if expectation == BETWEEN:
        return _exact_between()
    return shipped_class(expectation)


def shipped_class(expectation: str) -> Any:
    """Great Expectations' own class."""
    classes = load_great_expectations().expectations
    wanted = expectation.replace("_", "").lower()
    return next(getattr(classes, name) for name in dir(classes) if name.lower() == wanted)


@cache
def _own_classes() -> dict[str, Any]:
    load_great_expectations()
    with _replacing():
        return {name: _row_class(own) if isinstance(own, RowCheck) else _table_class(own) for name, own in OWN.items()}


@cache
def _exact_between() -> Any:
    """Great Expectations' own class, whose bounds stay as they are: it turns them into doubles."""
    base = load_great_expectations().expectations.ExpectColumnValuesToBeBetween
    bounds = ("min_value", "max_value")
    namespace = {"__annotations__": dict.fromkeys(bounds, Any), "__module__": __name__, **dict.fromkeys(bounds)}
    with _replacing():
        return type(base)(base.__name__, (base,), namespace)


@contextmanager
def _replacing() -> Iterator[None]:
    """Without Great Expectations' warning that one of its classes is replaced, which is intended."""
    log = logging.getLogger("great_expectations.expectations.registry")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def _row_class(check: RowCheck) -> Any:
    from great_expectations.execution_engine import PandasExecutionEngine
    from great_expectations.expectations.expectation import ColumnMapExpectation
    from great_expectations.expectations.metrics import ColumnMapMetricProvider, column_condition_partial

    def holds(cls: Any, column: pd.Series[Any], **arguments: Any) -> pd.Series[Any]:
        return type(column)(~check.failing(column, _read(check, arguments)), index=column.index)

    metric = f"column_values.{check.name.removeprefix('expect_column_')}"
    fields = tuple(check.arguments.model_fields)
    provider = {
        "condition_metric_name": metric,
        "condition_value_keys": fields,
        "_pandas": column_condition_partial(engine=PandasExecutionEngine)(holds),
    }
    type(ColumnMapMetricProvider)(f"{_camel(check.name)}Metric", (ColumnMapMetricProvider,), provider)
    return _class(ColumnMapExpectation, check, {"map_metric": metric, "success_keys": (*fields, "mostly")})


def _table_class(check: TableCheck) -> Any:
    from great_expectations.execution_engine import PandasExecutionEngine
    from great_expectations.expectations.expectation import ColumnAggregateExpectation
    from great_expectations.expectations.metrics import ColumnAggregateMetricProvider, column_aggregate_value

    def observe(cls: Any, column: pd.Series[Any], **arguments: Any) -> Any:
        return check.observe(column, _read(check, arguments))

    def validate(self: Any, metrics: Mapping[str, Any], **_: Any) -> dict[str, Any]:
        seen = metrics[metric]
        return {"success": seen.success, "result": {"observed_value": seen.observed, "details": dict(seen.details)}}

    metric = f"column.{check.name.removeprefix('expect_column_')}"
    fields = tuple(check.arguments.model_fields)
    provider = {
        "metric_name": metric,
        "value_keys": fields,
        "_pandas": column_aggregate_value(engine=PandasExecutionEngine)(observe),
    }
    type(ColumnAggregateMetricProvider)(f"{_camel(check.name)}Metric", (ColumnAggregateMetricProvider,), provider)
    members = {"metric_dependencies": (metric,), "success_keys": fields, "_validate": validate}
    return _class(ColumnAggregateExpectation, check, members)


def _class(base: Any, check: RowCheck | TableCheck, members: Mapping[str, Any]) -> Any:
    from great_expectations.compatibility import pydantic
    from great_expectations.expectations.expectation import render_suite_parameter_string
    from great_expectations.render import LegacyRendererType
    from great_expectations.render.renderer.renderer import renderer

    def check_arguments(cls: Any, values: dict[str, Any]) -> dict[str, Any]:
        _read(check, values)
        return values

    def render(cls: Any, configuration: Any, runtime_configuration: Any = None, **_: Any) -> list[Any]:
        return [_sentence(check, configuration.kwargs, runtime_configuration or {})]

    fields = check.arguments.model_fields
    optional = {name: field for name, field in fields.items() if not field.is_required()}
    namespace = {
        **members,
        **{name: field.get_default(call_default_factory=True) for name, field in optional.items()},
        "__annotations__": dict.fromkeys(fields, Any),
        "__module__": __name__,
        "__doc__": check.failing.__doc__ if isinstance(check, RowCheck) else check.observe.__doc__,
        "args_keys": ("column", *fields),
        "domain_keys": base.domain_keys,
        "library_metadata": {"tags": ["retune"]},
        "_check_arguments": pydantic.root_validator(skip_on_failure=True, allow_reuse=True)(check_arguments),
        "_prescriptive_renderer": classmethod(
            renderer(renderer_type=LegacyRendererType.PRESCRIPTIVE)(render_suite_parameter_string(render))
        ),
    }
    return type(base)(_camel(check.name), (base,), namespace)


def _read(check: RowCheck | TableCheck, arguments: Mapping[str, Any]) -> Arguments:
    given = {name: arguments[name] for name in check.arguments.model_fields if arguments.get(name) is not None}
    return check.arguments.model_validate(given)


def _sentence(check: RowCheck | TableCheck, arguments: Mapping[str, Any], runtime: Mapping[str, Any]) -> Any:
    """What the rule demands, for Data Docs: a parameter of the template, so that they escape it."""
    from great_expectations.render import RenderedStringTemplateContent
    from great_expectations.render.util import parse_row_condition_string

    mostly, condition = arguments.get("mostly"), arguments.get("row_condition")
    share = f", at least {mostly:.4g} of the time" if isinstance(mostly, int | float) and mostly < 1 else ""
    where = f", where {parse_row_condition_string(condition)}" if condition else ""
    sentence = f"{check.sentence(_read(check, arguments))}{share}{where}."
    column = "" if runtime.get("include_column_name") is False else "$column "
    return RenderedStringTemplateContent(
        content_block_type="string_template",
        string_template={
            "template": f"{column}$sentence",
            "params": {"column": arguments.get("column"), "sentence": sentence},
            "styling": {**(runtime.get("styling") or {}), "params": {"sentence": {}}},
        },
    )


def _camel(name: str) -> str:
    return "".join(part.title() for part in name.split("_"))
