"""Whether a template fits its recipes: the fields that it reads, and the columns that its contract wants."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from flows.recipe.paths import CONTRACT_SUFFIX, Project
from flows.recipe.project import ProjectRecipe, contract_columns_of
from retune.prompts.lint_template import LintedTemplate
from tasks.core.findings import Finding
from tasks.core.prompts.front_matter import DocumentField, FewShot
from tasks.core.suggestions import did_you_mean
from tasks.core.tables import CONVERSATION, LINEAGE
from tasks.core.yaml_tree import Place

IDENTITY = "document_id"
RAW_ANSWER = "raw"


def role_findings(template: LintedTemplate, recipe: ProjectRecipe) -> Iterator[Finding]:
    """A judge that a recipe has write rows, or a writer that it has judge them."""
    path, judges = template.path.resolve(), template.head.judge is not None
    if judges and path in recipe.writers:
        what = f"The recipe {recipe.name!r} has this template write rows, but it has a judge section"
        place = template.places.find("judge")
        yield Finding("role", what, str(template.path), *place, "name it under generate.judges")
    elif not judges and path in recipe.judges:
        what = f"The recipe {recipe.name!r} has this template judge rows, but it has no judge section"
        place = template.places.find("name")
        yield Finding("role", what, str(template.path), *place, "add one, such as judge: {accept: '^yes'}")


def unknown_fields(
    template: LintedTemplate, recipe: ProjectRecipe, row_fields: Sequence[str] | None
) -> Iterator[Finding]:
    """The fields that a template reads and the recipe's rows do not have.

    ``row_fields``: the columns of the recipe's rows, which a judge reads, or None where they are not known; a writer
    reads those of its documents.
    """
    is_judge = template.head.judge is not None
    if is_judge and row_fields is None:
        return
    known = [*((row_fields or []) if is_judge else recipe.fields), IDENTITY, *([RAW_ANSWER] if is_judge else [])]
    rows = "rows" if is_judge else "documents"
    for field, place in _fields_read(template):
        if field not in known:
            yield Finding(
                "unknown-field",
                f"The {rows} of the recipe {recipe.name!r} have no field {field!r}",
                str(template.path),
                *place,
                f"{did_you_mean(field, known)}fields are: {', '.join(known)}",
            )


def contract_findings(
    template: LintedTemplate, recipes: Sequence[ProjectRecipe], project: Project
) -> Iterator[Finding]:
    """What is wrong with the contract that a template says its rows feed."""
    name = template.head.contract
    if name is None:
        return
    place = template.places.find_value("contract")
    path = project.contracts / f"{name}{CONTRACT_SUFFIX}"
    if not path.is_file():
        known = sorted(
            other.name.removesuffix(CONTRACT_SUFFIX) for other in project.contracts.glob(f"*{CONTRACT_SUFFIX}")
        )
        remedy = f"{did_you_mean(name, known)}contracts are: {', '.join(known) or 'none'}"
        yield Finding("unknown-contract", f"There is no contract {name!r}", str(template.path), *place, remedy)
        return
    given = {*template.columns, *template.head.document_fields}
    for column in contract_columns_of(path):
        lacking = [recipe.name for recipe in recipes if column not in {*given, *recipe.fields, *LINEAGE, *CONVERSATION}]
        if lacking or (not recipes and column not in {*given, *LINEAGE, *CONVERSATION}):
            source = f"the documents of {', '.join(lacking)}" if recipes else "the fields that it reads"
            yield Finding(
                "contract-column",
                f"The contract {name!r} has the column {column!r}, which neither the output nor {source} give",
                str(template.path),
                *place,
                f"{did_you_mean(column, sorted(given))}add it to output, or take it out of {path.name}",
                "error" if recipes else "warning",  # without a recipe nobody knows what else its documents hold
            )


def recipe_contract_findings(recipe: ProjectRecipe, row_fields: Sequence[str]) -> Iterator[Finding]:
    """The columns of the contract of a recipe's rows that neither its documents nor any of its templates give."""
    known, path = [*row_fields, *LINEAGE, *CONVERSATION], recipe.contract("rows")
    for column, place in contract_columns_of(path).items():
        if column not in known:
            what = f"Neither a template nor a document of the recipe {recipe.name!r} gives the column {column!r}"
            remedy = f"{did_you_mean(column, known)}add it to a template's output, or take it out of the contract"
            yield Finding("contract-column", what, str(path), *place, remedy)


def _fields_read(template: LintedTemplate) -> Iterator[tuple[str, Place]]:
    find = template.places.find_value
    for name, variable in template.head.variables.items():
        if isinstance(variable, DocumentField):
            yield variable.field or name, find("variables", name, *(["field"] if variable.field else []))
        elif isinstance(variable, FewShot):
            yield from ((field, find("variables", name, "fields", field)) for field in variable.fields)
            if variable.same:
                yield variable.same, find("variables", name, "same")
