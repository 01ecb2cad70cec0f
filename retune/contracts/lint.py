"""``retune contracts lint``: find everything that is wrong with contracts without reading a row."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from flows.recipe.paths import CONTRACT_SUFFIX, Project
from flows.recipe.project import BOUNDARIES, ProjectRecipe, read_project_recipe, read_recipes
from retune.contracts.uses import Use, boundaries_of, unread_tables, uses_in, uses_without_recipe
from retune.lint_report import LintReport, as_shown, from_here
from tasks.core.errors import ContractError
from tasks.core.findings import Finding
from tasks.core.suggestions import did_you_mean
from tasks.validate.contracts.compiler import compile_table
from tasks.validate.contracts.labels import label_findings
from tasks.validate.contracts.odcs import ContractFile, read_file

SEMVER = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")
DEPEND_ON_THE_RECIPE = ("unknown-column", "column-type", "task-label")


def lint_contracts(names: Sequence[str], recipe: str | None = None, project: Project | None = None) -> LintReport:
    """Check contracts, by default all of ``data_contracts/`` and all that recipes name, or all that ``recipe`` names.

    They are checked for ``recipe``, whether it names them or not, else for each recipe that names them. Raises a
    RecipeError if the recipe does not exist or cannot be read.
    """
    project = project or Project()
    named = [find_contract(name, project) for name in names]
    if recipe is None:
        recipes, findings = read_recipes(project, named)
    else:
        recipes, findings = [read_project_recipe(recipe, project)], []
    paths = named or _all(recipes, None if recipe else project)
    for path in dict.fromkeys(paths):
        findings += _contract_findings(path, recipes, adopting=recipe is not None)
    if not names:
        findings += [finding for each in recipes for finding in _missing(each)]
    known = {one.contract(boundary).resolve() for one in recipes for boundary in BOUNDARIES}
    unknown = [] if recipe else [path for path in dict.fromkeys(paths) if path.resolve() not in known]
    return LintReport(as_shown(findings), len(set(paths)), "contract", tuple(map(from_here, unknown)))


def find_contract(name: str, project: Project) -> Path:
    """The file of a contract that is named or given by its path, whether it exists or not."""
    is_path = name.endswith((".yaml", ".yml")) or "/" in name
    return Path(name) if is_path else project.contracts / f"{name}{CONTRACT_SUFFIX}"


def _all(recipes: Sequence[ProjectRecipe], project: Project | None) -> list[Path]:
    of_project = sorted(project.contracts.glob(f"*{CONTRACT_SUFFIX}")) if project else []
    of_recipes = [recipe.contract(boundary) for recipe in recipes for boundary in BOUNDARIES]
    known = {path.resolve(): path for path in (*of_recipes, *of_project) if path.is_file()}
    return list(known.values())


def _contract_findings(path: Path, recipes: Sequence[ProjectRecipe], adopting: bool) -> Iterator[Finding]:
    file, findings = read_file(path)
    if file is None:
        yield from findings
        return
    yield from _head_findings(file)
    yield from unread_tables(file)
    uses: list[Use] = []
    for recipe in recipes:
        try:
            named = boundaries_of(path, recipe)
            found, unknown = uses_in(file, recipe, named or (BOUNDARIES[:1] if adopting else ()))
        except ContractError as error:
            yield Finding("reserved-column", error.what, str(recipe.path), 1, 1, error.remedy)
            return
        uses += found
        yield from unknown
    yield from _in_uses(file, findings, uses or uses_without_recipe(file))


def _in_uses(file: ContractFile, of_file: Sequence[Finding], uses: Sequence[Use]) -> Iterator[Finding]:
    """What is wrong with a contract where it is used; findings that depend on the columns there name the place."""
    places: dict[Finding, list[str]] = {}
    for use in uses:
        compiled, found = compile_table(file, use.columns, use.table, use.context)
        if compiled is not None:
            found += label_findings(compiled.rules, use.answers, use.context.labels)
        for finding in (*of_file, *found):
            same = (other for other in places if replace(other, remedy="") == replace(finding, remedy=""))
            places.setdefault(next(same, finding), []).append(use.place)
    for finding, where in places.items():
        named = "; ".join(dict.fromkeys(filter(None, where)))
        suffix = f" ({named})" if named and finding.code in DEPEND_ON_THE_RECIPE else ""
        yield replace(finding, what=f"{finding.what}{suffix}")


def _head_findings(file: ContractFile) -> Iterator[Finding]:
    document = file.document
    if document.version and not SEMVER.fullmatch(document.version):
        what = f"The version {document.version!r} is not MAJOR.MINOR.PATCH, so changes cannot be ordered"
        yield file.finding("version", what, ("version",), "begin with 1.0.0", is_error=False)
    team = document.team
    members = team if isinstance(team, list) else [*((team.members or []) if team else [])]
    if not members and not getattr(team, "name", None):
        remedy = "add team: {name: ...}, or its members"
        yield file.finding("no-owner", "The contract names no owner", ("team",), remedy, is_error=False)


def _missing(recipe: ProjectRecipe) -> Iterator[Finding]:
    known = sorted(path.name.removesuffix(CONTRACT_SUFFIX) for path in recipe.project.contracts.glob("*.y*ml"))
    for boundary in BOUNDARIES:
        name = recipe.contract_name(boundary)
        if not recipe.contract(boundary).is_file():
            what = f"There is no contract {name!r}, which the recipe {recipe.name!r} names for its {boundary}"
            remedy = f"{did_you_mean(name, known)}contracts are: {', '.join(known) or 'none'}"
            yield Finding("unknown-contract", what, str(recipe.path), *recipe.place_of(boundary), remedy)
