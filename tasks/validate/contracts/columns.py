"""The columns that contracts can name at each boundary, how they are stored, and rules that do not fit that."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from tasks.core.errors import ContractError
from tasks.core.tables import ARRAY, CONVERSATION, DOCUMENT, INTEGER, LINEAGE, TEXT, Columns
from tasks.validate.contracts.rule import Fault, Rule
from tasks.validate.contracts.vacuous_rules import IN_SET

_STORED = {**DOCUMENT, **LINEAGE, **CONVERSATION}  # every other column is text
ALSO_DESCRIBED_AS = {TEXT: (ARRAY, "object", "map"), ARRAY: (TEXT, "object"), INTEGER: ("number",)}
"""The logical types that fit a stored type, in addition to its own."""
OF_NUMBERS = frozenset({
    "expect_column_mean_to_be_between", "expect_column_median_to_be_between", "expect_column_stdev_to_be_between",
    "expect_column_sum_to_be_between", "expect_column_quantile_values_to_be_between",
    "expect_column_value_z_scores_to_be_less_than", "expect_column_values_to_be_increasing",
    "expect_column_values_to_be_decreasing", "expect_multicolumn_sum_to_equal",
})  # fmt: skip
BOUNDED = tuple(f"expect_column_{what}_to_be_between" for what in ("values", "max", "min"))
COMPARED = "expect_column_pair_values_a_to_be_greater_than_b"
NOT_IN_SET = "expect_column_values_to_not_be_in_set"
TEXTS = (TEXT, ARRAY)  # stored types whose values rules see as texts; a list is its JSON text
REMEDY = "choose a rule for texts, such as expect_column_value_lengths_to_be_between"


def contract_columns(fields: Sequence[str]) -> Columns:
    """The columns of rows: the recipe's fields, the lineage, and the conversation.

    ``messages`` is the conversation as JSON text; ``user_text`` and ``assistant_text`` are what each of the two wrote.
    A field that has the name of a column that every row has anyway raises a ContractError.
    """
    return _columns(fields, (*LINEAGE, *CONVERSATION))


def document_columns(fields: Sequence[str]) -> Columns:
    """The columns of documents, likewise: their origin, the recipe's fields, and the conversation, if it is one."""
    return _columns(fields, (*DOCUMENT, *CONVERSATION))


def _columns(fields: Sequence[str], given: Iterable[str]) -> Columns:
    taken = sorted({*fields} & {*given})
    if taken:
        what = f"The field {taken[0]!r} has the name of a column that every row has"
        raise ContractError(what, where="the recipe's column mapping", remedy="map the column to another name")
    return {name: _STORED.get(name, TEXT) for name in dict.fromkeys((*fields, *given))}


def can_hold(stored: str, logical: str) -> bool:
    """Whether a logical type can describe a column of a stored type. Lists and objects may be JSON text."""
    return stored == logical or logical in ALSO_DESCRIBED_AS.get(stored, ())


def text_arguments(rule: Rule, types: Mapping[str, str | None]) -> Iterator[str]:
    """The arguments of a rule that are lists of texts; a set of values is one if its column is text."""
    yield from (name for name in ("languages", "phrases", "regex_list", "tokens") if name in rule.arguments)
    if any(types.get(column) in TEXTS for column in rule.columns) and "value_set" in rule.arguments:
        yield "value_set"


def misfits(rule: Rule, types: Mapping[str, str | None]) -> Iterator[Fault]:
    for column in rule.columns:
        kind = types.get(column)
        if kind in TEXTS and (wants := _wants_numbers(rule)):
            argument, why = wants
            what = f"{rule.expectation}: {why}, and the column {column!r} is text"
            yield Fault("column-type", what, REMEDY, argument)
        elif kind == INTEGER and rule.expectation in (IN_SET, NOT_IN_SET):
            yield from _set_faults(rule)
    if rule.expectation == COMPARED and len({types.get(name) in TEXTS for name in rule.columns if types.get(name)}) > 1:
        what = f"{rule.expectation} compares text with a number: {' and '.join(map(repr, rule.columns))}"
        yield Fault("column-type", what, "compare columns of one type", "column_A")


def _wants_numbers(rule: Rule) -> tuple[str | None, str] | None:
    if rule.expectation in OF_NUMBERS:
        return None, "it needs numbers"
    if rule.expectation in BOUNDED:
        for name in ("min_value", "max_value"):
            if isinstance(value := rule.arguments.get(name), int | float):
                return name, f"{name} {value} is a number"
    return None


def _set_faults(rule: Rule) -> Iterator[Fault]:
    values = rule.arguments.get("value_set") or []
    if values and not any(isinstance(value, int | float) for value in values):
        code = "never-holds" if rule.expectation == IN_SET else "never-fails"
        shown = ", ".join(map(repr, values[:3]))
        what = f"{rule.expectation}: {shown} cannot be values of the column, which is a number"
        yield Fault(code, what, "write the values without quotes", "value_set")
