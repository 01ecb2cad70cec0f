"""Find where a contract is used: at which boundaries of which recipes, and which columns the tables there have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from flows.recipe.project import BOUNDARIES, ProjectRecipe
from flows.recipe.task_fit import answers_of
from tasks.core.control_tokens import WELL_KNOWN
from tasks.core.errors import PromptError
from tasks.core.findings import Finding
from tasks.core.home import Home
from tasks.core.tables import CONVERSATION, DOCUMENT, LINEAGE, Columns
from tasks.validate.contracts.columns import contract_columns, document_columns
from tasks.validate.contracts.odcs import ContractFile, implementation_of
from tasks.validate.contracts.rule import COLUMN_ARGUMENTS, LIST_ARGUMENTS, ContractContext

DRIFT, TRAINING_SET = "drift", "training_set"
ON_DOCUMENTS = ("documents", "evaluations")
ANY_RECIPE = ContractContext("the recipe's model", WELL_KNOWN)  # where no recipe is known


@dataclass(frozen=True)
class Use:
    """One table of a contract (None: the first) at one boundary; ``place`` names it, empty where no recipe does.

    ``answers``: the columns that hold a row's answer.
    """

    place: str
    table: str | None
    columns: Columns
    context: ContractContext
    answers: tuple[str, ...] = ()


def uses_in(file: ContractFile, recipe: ProjectRecipe, boundaries: Sequence[str]) -> tuple[list[Use], list[Finding]]:
    """The uses of a contract at these boundaries of a recipe; a warning where the columns there are unknown."""
    context = ContractContext(recipe.content.model.path, WELL_KNOWN, recipe.content.task.labels)
    uses: list[Use] = []
    for boundary in boundaries:
        try:
            columns = _columns_at(boundary, recipe)
        except PromptError as error:
            what = f"A prompt of the recipe {recipe.name!r} cannot be read, so its columns are unknown: {error.what}"
            lint = Home.from_environment().command("prompts", "lint", recipe=recipe.content.reference)
            remedy = f"correct {error.where}; {lint} finds all that is wrong"
            return uses, [Finding("recipe", what, str(recipe.path), 1, 1, remedy, "warning")]
        place = f"the recipe {recipe.name!r}, {boundary}"
        uses.append(Use(place, None, columns, context, answers_of(recipe.content.task)))
        if boundary == TRAINING_SET and DRIFT in _tables(file):
            uses.append(Use(place, DRIFT, drift_columns(), context))
    return uses, []


def uses_without_recipe(file: ContractFile) -> list[Use]:
    """The uses of a contract that no recipe names: on its own columns and those that every row has."""
    properties = (file.document.schema_[0].properties or []) if file.document.schema_ else []
    own = {item.name: item.logicalType or "" for item in properties if item.name}
    columns = {**own, **{name: own.get(name, "") for name in (*DOCUMENT, *LINEAGE, *CONVERSATION)}}
    drift = [Use("", DRIFT, drift_columns(), ANY_RECIPE)] if DRIFT in _tables(file)[1:] else []
    return [Use("", None, columns, ANY_RECIPE), *drift]


def described_columns(file: ContractFile) -> Columns:
    """Every column that a contract names, and those that every row has, without types."""
    tables = file.document.schema_ or []
    names = [item.name for table in tables for item in table.properties or []]
    rules = [rule for table in tables for rule in table.quality or []]
    rules += [rule for table in tables for item in table.properties or [] for rule in item.quality or []]
    for rule in rules:
        kwargs = (implementation_of(rule) or {}).get("kwargs")
        for key, value in (kwargs if isinstance(kwargs, dict) else {}).items():
            if key in COLUMN_ARGUMENTS or key in LIST_ARGUMENTS:
                names += value if isinstance(value, list) else [value]
    return dict.fromkeys((*map(str, names), *DOCUMENT, *LINEAGE, *CONVERSATION), "")


def boundaries_of(path: Path, recipe: ProjectRecipe) -> list[str]:
    return [boundary for boundary in BOUNDARIES if recipe.contract(boundary).resolve() == path.resolve()]


def unread_tables(file: ContractFile) -> Iterator[Finding]:
    """Warnings on tables of a contract that are never read."""
    for number, name in enumerate(_tables(file)):
        if number and name != DRIFT:
            what = f"The table {name!r} is never read: a contract's rules are those of its first table"
            remedy = f"give it a file of its own; only a training set's contract has a second, named {DRIFT}"
            yield file.finding("unread-table", what, ("schema", number, "name"), remedy, is_error=False)


def drift_columns() -> Columns:
    from tasks.validate.drift.drift import DRIFT_COLUMNS  # loads numpy

    return DRIFT_COLUMNS


def _columns_at(boundary: str, recipe: ProjectRecipe) -> Columns:
    if boundary in ON_DOCUMENTS:
        return document_columns(recipe.fields)
    from tasks.core.prompts import read_prompt
    from tasks.generate.written_rows import columns_of_rows

    return contract_columns(columns_of_rows(recipe.fields, [read_prompt(path) for path in recipe.writers]))


def _tables(file: ContractFile) -> list[str]:
    return [table.name or "" for table in file.document.schema_ or []]
