"""``retune prompts``: commands for the people who write templates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from tasks.core.home import Home

prompts_app = typer.Typer(no_args_is_help=True, help="Check, preview and compare prompt templates.")
NameArgument = Annotated[str, typer.Argument(help="A name in prompts/, or a template's path.")]
RecipeOption = Annotated[
    str | None,
    typer.Option(
        help="Whose teacher, judges and documents: a name, or a recipe's path; one that names the template by default."
    ),
]
DOCUMENTS = "'example': the template's own; 'recipe': its last night's; or a .json, .jsonl, .csv or .parquet file."


@prompts_app.command()
def lint(
    templates: Annotated[
        list[str] | None, typer.Argument(help="Names in prompts/, or paths; all of prompts/ by default.")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="Check for this recipe only; by default for each that names a template.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="One JSON object: findings, and the number checked.")] = False,
) -> None:
    """Find faults in templates; exit code 1 if one of the findings is an error."""
    from retune.prompts.lint import lint_prompts

    report = lint_prompts(templates or [], recipe)
    print(json.dumps(report.as_json(), ensure_ascii=False) if json_ else report.as_text())
    if report.errors:
        raise typer.Exit(1)


@prompts_app.command()
def preview(
    name: NameArgument,
    rows: Annotated[int, typer.Option(min=1, max=1000, help="How many rows at most.")] = 3,
    recipe: RecipeOption = None,
    run: Annotated[bool, typer.Option("--run", help="Ask the teacher and the judges too.")] = False,
    documents: Annotated[str, typer.Option(help=DOCUMENTS)] = "example",
    json_: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show what a template sends for a few documents and, with --run, the rows it produces."""
    from retune.prompts.preview import DEFAULT, recipe_for, template_faults, template_path
    from retune.prompts.preview import preview as try_template
    from retune.prompts.print_trials import print_preview
    from retune.terminal import out, show

    chosen = recipe_for(template_path(name), recipe)
    found = template_faults(template_path(name), chosen, documents)
    if found.errors:
        print(json.dumps(found.as_json())) if json_ else show(found.as_text())
        raise typer.Exit(1)
    tried = try_template(name, chosen or DEFAULT, Home.from_environment(), rows=rows, documents=documents, run=run)
    if json_:
        print(json.dumps(tried.as_json()))
        return
    print_preview(out, tried)
    if found.findings:
        show(found.as_text(), "yellow")


@prompts_app.command()
def diff(
    name: NameArgument,
    against: Annotated[str, typer.Option(help="A Git revision.")] = "HEAD",
    recipe: RecipeOption = None,
    rows: Annotated[int, typer.Option(min=1, max=1000, help="How many requests by each template at most.")] = 40,
    documents: Annotated[str, typer.Option(help=DOCUMENTS)] = "recipe",
    html: Annotated[Path | None, typer.Option(help="Where to write the page; RETUNE_HOME/reports by default.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Compare the committed and the edited template on the same documents and seeds."""
    from retune.prompts.diff import Unchanged
    from retune.prompts.diff import diff as compare_templates
    from retune.prompts.page import write_page
    from retune.prompts.preview import DEFAULT, recipe_for, template_path
    from retune.prompts.print_trials import print_diff
    from retune.terminal import out, show

    home = Home.from_environment()
    chosen = recipe_for(template_path(name), recipe)
    found = compare_templates(name, chosen or DEFAULT, home, against=against, rows=rows, documents=documents)
    if isinstance(found, Unchanged):
        print(json.dumps(found.as_json())) if json_ else show(found.as_text())
        return
    page = write_page(found, html or home.reports / f"diff-{found.prompt}-{found.revision}.html")
    if json_:
        print(json.dumps({**found.as_json(), "page": str(page)}))
        return
    print_diff(out, found)
    show(f"page: {page}")
