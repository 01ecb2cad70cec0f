"""``retune prompts lint``: find the faults of templates that can be found before a model is started."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from flows.recipe.paths import Project
from flows.recipe.project import ProjectRecipe, read_project_recipe, read_recipes
from flows.recipe.task_fit import TaskFit
from retune.lint_report import LintReport, as_shown, from_here
from retune.prompts.lint_budget import budget_findings
from retune.prompts.lint_examples import read_examples, render_examples
from retune.prompts.lint_output import output_findings
from retune.prompts.lint_rows import contract_findings, recipe_contract_findings, role_findings, unknown_fields
from retune.prompts.lint_template import LintedTemplate, open_template
from retune.prompts.lint_text import control_tokens, control_tokens_of, stray_braces, without_consequences
from tasks.core.prompts import SUFFIX, Finding
from tasks.core.prompts.rendering import Renderer


def lint_prompts(names: Sequence[str], recipe: str | None = None, project: Project | None = None) -> LintReport:
    """Check templates.

    Raises RecipeError: the recipe does not exist or cannot be read.

    Args:
        names: of templates in ``prompts/``, or paths; if empty, all of ``prompts/``, or all of the recipe.
        recipe: check them for this recipe, even if it does not name them; None: for each recipe that names them.
        project: holds the files; None: this project.
    """
    project = project or Project()
    named = [_template_path(name, project) for name in names]
    paths = list(dict.fromkeys(named)) or sorted(project.prompts.glob(f"*{SUFFIX}"))
    findings: list[Finding] = []
    if recipe is None:
        known, findings = read_recipes(project, named)
        recipes = [found for found in known if any(found.names(path) for path in paths)]
    else:
        recipes = [read_project_recipe(recipe, project)]
        paths = paths if names else [*recipes[0].writers, *recipes[0].judges]
    with Renderer() as renderer:
        findings += _Linter(project, paths, recipes, recipe is not None, renderer).findings()
    unknown = [] if recipe else [path for path in paths if not any(found.names(path) for found in recipes)]
    return LintReport(as_shown(findings), len(paths), without_recipe=tuple(map(from_here, unknown)))


@dataclass(frozen=True)
class _Linter:
    """Checks templates for recipes; if ``adopting``, as if the recipes named all the templates."""

    project: Project
    paths: Sequence[Path]
    recipes: Sequence[ProjectRecipe]
    adopting: bool
    renderer: Renderer

    def findings(self) -> Iterator[Finding]:
        for path in self.paths:
            yield from self._of_template(path)
        yield from self._twins()
        yield from self._of_recipes()

    @cached_property
    def _opened(self) -> dict[Path, tuple[LintedTemplate | None, list[Finding]]]:
        writers = [path for recipe in self.recipes for path in recipe.writers]
        as_named = {path.resolve(): path for path in [*writers, *self.paths]}
        return {resolved: open_template(path) for resolved, path in as_named.items()}

    def _of_template(self, path: Path) -> Iterator[Finding]:
        template, findings = self._opened[path.resolve()]
        if template is None:
            yield from findings
            return
        recipes = [recipe for recipe in self.recipes if self.adopting or recipe.names(path)]
        yield from without_consequences(findings, template)
        tokens = control_tokens_of([recipe.teacher for recipe in recipes if recipe.teacher])
        for source in template.sources:
            yield from stray_braces(source, template.head.variables)
            yield from control_tokens(source, tokens)
        yield from output_findings(template)
        yield from contract_findings(template, recipes, self.project)
        for recipe in recipes:
            yield from role_findings(template, recipe)
            yield from unknown_fields(template, recipe, self._row_fields(recipe))
            if not template.head.judge:
                head, task = template.head, recipe.content.task
                yield from TaskFit(path, head, template.places, task, recipe.read_downstream).findings()
        yield from self._of_examples(template, recipes)

    def _of_examples(self, template: LintedTemplate, recipes: Sequence[ProjectRecipe]) -> Iterator[Finding]:
        examples, findings = read_examples(template)
        yield from findings
        if template.prompt is None or not examples:
            return
        conversations, findings = render_examples(template.prompt, examples, self.renderer)
        yield from findings
        for recipe in recipes:
            yield from budget_findings(template, recipe, conversations)

    def _of_recipes(self) -> Iterator[Finding]:
        for recipe in self.recipes:
            fields = self._row_fields(recipe)
            contracts = [template.head.contract for template in self._writers(recipe) if template]
            if recipe.writers and fields is not None and recipe.contract_name("rows") not in contracts:
                yield from recipe_contract_findings(recipe, fields)

    def _writers(self, recipe: ProjectRecipe) -> list[LintedTemplate | None]:
        paths = [*recipe.writers, *(path.resolve() for path in self.paths if self.adopting)]
        return [self._opened[path][0] for path in dict.fromkeys(paths)]

    def _row_fields(self, recipe: ProjectRecipe) -> list[str] | None:
        columns = list(recipe.fields)
        for template in self._writers(recipe):
            if template is None:
                return None
            columns += template.columns
        return list(dict.fromkeys(columns))

    def _twins(self) -> Iterator[Finding]:
        seen: dict[str, Path] = {}
        for path in self.paths:
            template = self._opened[path.resolve()][0]
            if template is None or template.head.name != path.stem:
                continue
            first = seen.setdefault(path.stem, path)
            if first != path:
                what = f"{first} has the name {path.stem!r} too"
                yield Finding(
                    "same-name", what, str(path), *template.places.find_value("name"), "rename one of the two"
                )


def _template_path(name: str, project: Project) -> Path:
    return Path(name) if name.endswith(SUFFIX) or "/" in name else project.prompts / f"{name}{SUFFIX}"
