"""Compare two versions of a contract: what they promise differently, and who is affected."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal

from retune.contracts.direction import direction
from retune.contracts.uses import ANY_RECIPE
from tasks.validate.contracts.odcs import ContractFile
from tasks.validate.contracts.rule import Rule

if TYPE_CHECKING:
    from open_data_contract_standard.model import SchemaObject, SchemaProperty

Audience = Literal["consumers", "producers", "nobody"]
AUDIENCES: tuple[Audience, ...] = ("consumers", "producers", "nobody")
"""Who a change may break; the position is that of the number in MAJOR.MINOR.PATCH that must rise."""
CRITICAL = "critical"
COMPARED = frozenset((
    "name", "logicalType", "logicalTypeOptions", "required", "unique", "primaryKey", "enum", "quality", "properties",
    "items", "map",
))  # fmt: skip
"""Keys of a column that become rules or types, or that are compared one by one."""
OF_THE_TABLE = frozenset(("name", "properties", "quality"))
OF_THE_HEAD = frozenset(("id", "version", "schema_"))
SHORT = {
    "expect_column_values_to_not_be_null": "required",
    "expect_column_values_to_be_unique": "unique",
    "expect_column_values_to_be_in_set": "the set of values",
    "expect_column_value_lengths_to_be_between": "length",
    "expect_column_values_to_match_regex": "pattern",
    "expect_column_values_to_be_between": "range",
}
"""The name of a rule that has none of its own, shown after its column."""
GIVEN_BY_THE_RECIPE = (ANY_RECIPE.model, list(ANY_RECIPE.control_tokens))
MOST_SHOWN = 80


@dataclass(frozen=True)
class Change:
    """One difference, with file and line in the new version; in the old one for what is removed.

    It concerns consumers if the contract promises less, producers if more of their rows are quarantined, or nobody.
    """

    concerns: Audience
    what: str
    where: str


@dataclass(frozen=True)
class Version:
    file: ContractFile
    rules: tuple[tuple[Rule, ...], ...]

    @property
    def tables(self) -> Sequence[SchemaObject]:
        return self.file.document.schema_ or []


def compare(old: Version, new: Version) -> tuple[Change, ...]:
    changes = [*_table_changes(old, new), *_head_changes(old.file, new.file)]
    before, after = (version.file.document.model_dump(exclude={"version"}) for version in (old, new))
    if not changes and before != after:
        changes.append(Change("nobody", "the description of columns or rules changed", new.file.where(("schema",))))
    return tuple(sorted(changes, key=lambda change: AUDIENCES.index(change.concerns)))


def _table_changes(old: Version, new: Version) -> Iterator[Change]:
    """Changes of tables. The first tables correspond, whatever their names; the others correspond by name."""
    before = {("" if not number else table.name): number for number, table in enumerate(old.tables)}
    after = {("" if not number else table.name): number for number, table in enumerate(new.tables)}
    for name, number in before.items():
        if name not in after:
            where = old.file.where(("schema", number))
            yield Change("consumers", f"the table {name!r} is gone, with {len(old.rules[number])} rules", where)
    for name, number in after.items():
        if name not in before:
            where = new.file.where(("schema", number))
            yield Change("producers", f"the table {name!r} is new, with {len(new.rules[number])} rules", where)
        else:
            yield from _one_table(old, before[name], new, number)


def _one_table(old: Version, old_number: int, new: Version, number: int) -> Iterator[Change]:
    before, after = old.tables[old_number], new.tables[number]
    at_old, at_new = ("schema", old_number, "properties"), ("schema", number, "properties")
    columns = {item.name: (index, item) for index, item in enumerate(before.properties or [])}
    new_columns = {item.name: (index, item) for index, item in enumerate(after.properties or [])}
    lost = {name: item for name, (_, item) in columns.items() if name not in new_columns}
    gained = {name: item for name, (_, item) in new_columns.items() if name not in columns}
    successors = {name: _successor(item, gained) for name, item in lost.items()}
    for name, successor in successors.items():
        what = f"the column {name!r} is renamed to {successor!r}" if successor else f"the column {name!r} is gone"
        yield Change("consumers", what, old.file.where((*at_old, columns[name][0])))
    for name in (name for name in gained if name not in successors.values()):
        what = f"the column {name!r} is new: rows must have it"
        yield Change("producers", what, new.file.where((*at_new, new_columns[name][0])))
    for name, (index, item) in new_columns.items():
        if name in columns:
            yield from _column_changes(columns[name][1], item, new.file, (*at_new, index))
    yield from _rules_changes(
        [rule for rule in old.rules[old_number] if not set(rule.columns) & set(lost)],
        [rule for rule in new.rules[number] if not set(rule.columns) & set(gained)],
    )
    if names := _differing(before, after, OF_THE_TABLE):
        yield Change("nobody", f"of the table: {names} changed", new.file.where(("schema", number)))


def _column_changes(
    old: SchemaProperty, new: SchemaProperty, file: ContractFile, at: tuple[str | int, ...]
) -> Iterator[Change]:
    if old.logicalType != new.logicalType:
        what = f"{new.name}: the type {old.logicalType or '(none)'} became {new.logicalType or '(none)'}"
        yield Change("consumers" if old.logicalType else "producers", what, file.where((*at, "logicalType")))
    for inside in ("properties", "items", "map"):
        if getattr(old, inside) != getattr(new, inside):
            yield Change("consumers", f"{new.name}: what is inside changed ({inside})", file.where((*at, inside)))
    if names := _differing(old, new, COMPARED):
        yield Change("nobody", f"{new.name}: {names} changed", file.where(at))


def _rules_changes(old: Sequence[Rule], new: Sequence[Rule]) -> Iterator[Change]:
    pairs, gone, added = _paired(old, new)
    for rule in gone:
        concerns: Audience = "consumers" if rule.severity == CRITICAL else "nobody"
        yield Change(concerns, f"{_named(rule)} is gone{_unless_critical(rule)}", rule.where)
    for rule in added:
        concerns = "producers" if rule.severity == CRITICAL else "nobody"
        yield Change(concerns, f"{_named(rule)} is new{_unless_critical(rule)}{_arguments(rule)}", rule.where)
    for before, after in pairs:
        yield from _rule_changes(before, after)


def _rule_changes(old: Rule, new: Rule) -> Iterator[Change]:
    if old.severity != new.severity:
        concerns: Audience = "nobody"
        if CRITICAL in (old.severity, new.severity):
            concerns = "consumers" if old.severity == CRITICAL else "producers"
        yield Change(concerns, f"{_named(new)}: the severity {old.severity} became {new.severity}", new.where)
    went = direction(new.expectation, old.arguments, new.arguments)
    if went != "same":
        is_promised = old.severity == new.severity == CRITICAL
        concerns = "nobody" if not is_promised else "producers" if went == "tighter" else "consumers"
        which = "may let other rows through" if went == "both" else f"is {went}"
        yield Change(concerns, f"{_named(new)} {which}: {_difference(old, new)}", new.where)
    if old.name != new.name:
        yield Change("nobody", f"the rule {old.name!r} is now called {new.name!r}", new.where)


def _paired(old: Sequence[Rule], new: Sequence[Rule]) -> tuple[list[tuple[Rule, Rule]], list[Rule], list[Rule]]:
    """The rules that correspond (by arguments, else names, else order), those removed, and those added."""
    pairs: list[tuple[Rule, Rule]] = []
    left, waiting = list(new), list(old)
    likenesses: tuple[Callable[[Rule], Any], ...] = (attrgetter("arguments"), attrgetter("name"), lambda rule: None)
    for likeness in likenesses:
        for rule in list(waiting):
            about = (rule.expectation, rule.columns)
            same = (
                other
                for other in left
                if (other.expectation, other.columns) == about and likeness(other) == likeness(rule)
            )
            if twin := next(same, None):
                pairs.append((rule, twin))
                waiting.remove(rule)
                left.remove(twin)
    return pairs, waiting, left


def _head_changes(old: ContractFile, new: ContractFile) -> Iterator[Change]:
    if old.document.id != new.document.id:
        what = f"the id {old.document.id!r} became {new.document.id!r}"
        yield Change("consumers", what, new.where(("id",)))
    if names := _differing(old.document, new.document, OF_THE_HEAD):
        yield Change("nobody", f"{names} changed", new.where((names.split(",")[0],)))


def _successor(item: SchemaProperty, gained: Mapping[str | None, SchemaProperty]) -> str | None:
    """The new name of a column: that of a new column with the same description, or else with a similar name."""
    same = [name for name, other in gained.items() if name and other == item.model_copy(update={"name": name})]
    near = difflib.get_close_matches(item.name or "", [name for name in gained if name], 1)
    return next(iter([*same, *near]), None)


def _differing(old: Any, new: Any, besides: frozenset[str]) -> str:
    names = [name for name in type(new).model_fields if name not in besides]
    return ", ".join(name for name in names if getattr(old, name) != getattr(new, name))


def _named(rule: Rule) -> str:
    generated = ".".join([*rule.columns[:1], rule.expectation])
    if rule.name.partition(" (")[0] == generated and rule.expectation in SHORT and rule.columns:
        return f"{rule.columns[0]}: {SHORT[rule.expectation]}"
    return f"the rule {rule.name!r}"


def _unless_critical(rule: Rule) -> str:
    return "" if rule.severity == CRITICAL else f" ({rule.severity})"


def _arguments(rule: Rule) -> str:
    listed = ", ".join(f"{name} {_short(value)}" for name, value in rule.arguments.items() if name != "column")
    return f": {listed}" if listed else ""


def _difference(old: Rule, new: Rule) -> str:
    names = [name for name in dict.fromkeys((*old.arguments, *new.arguments))
             if old.arguments.get(name) != new.arguments.get(name)]  # fmt: skip
    return ", ".join(_became(name, old.arguments.get(name), new.arguments.get(name)) for name in names)


def _became(name: str, before: Any, after: Any) -> str:
    if isinstance(before, list) and isinstance(after, list):
        gained = [item for item in after if item not in before]
        lost = [item for item in before if item not in after]
        parts = [f"{verb} {_short(items)}" for verb, items in (("gained", gained), ("lost", lost)) if items]
        return f"{name} {' and '.join(parts)}"
    return f"{name} {_short(before)} became {_short(after)}"


def _short(value: Any) -> str:
    if value in GIVEN_BY_THE_RECIPE:
        return "of the recipe"
    text = "(none)" if value is None else ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."
