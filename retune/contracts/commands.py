"""``retune contracts``: commands for the people who write data contracts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

contracts_app = typer.Typer(no_args_is_help=True, help="Check and compare data contracts, and check files.")


@contracts_app.command()
def lint(
    contracts: Annotated[
        list[str] | None, typer.Argument(help="Names in data_contracts/, or paths; all by default.")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="Check for this recipe only; by default for each that names a contract.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="One JSON object: findings, and the number checked.")] = False,
) -> None:
    """Find what is wrong with contracts; exit code 1 if one of the findings is an error."""
    from retune.contracts.lint import lint_contracts

    report = lint_contracts(contracts or [], recipe)
    print(json.dumps(report.as_json(), ensure_ascii=False) if json_ else report.as_text())
    if report.errors:
        raise typer.Exit(1)


@contracts_app.command()
def check(
    file: Annotated[Path, typer.Argument(help="CSV, TSV, JSON, JSON Lines or Parquet; also packed.")],
    contract: Annotated[str, typer.Option(help="A name in data_contracts/, or a contract's path.")],
    recipe: Annotated[
        str | None, typer.Option(help="The recipe with the columns, tokenizer and control tokens: a name, or a path.")
    ] = None,
    quarantine: Annotated[
        Path | None, typer.Option(help="Write the rows that break a critical rule to this file, as JSON Lines.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Check a file against a contract; exit code 1 if a critical rule is broken."""
    from flows.recipe.paths import Project
    from retune.contracts.check import check_file, write_broken
    from retune.contracts.check_report import print_check
    from retune.contracts.lint import find_contract

    checked = check_file(file, find_contract(contract, Project()), recipe)
    if quarantine:
        write_broken(checked, quarantine)
    print(json.dumps(checked.report.as_json(), ensure_ascii=False)) if json_ else print_check(checked.report)
    if not checked.report.is_kept:
        raise typer.Exit(1)


@contracts_app.command()
def diff(
    contract: Annotated[str, typer.Argument(help="A name in data_contracts/, or a path; of two, the old one.")],
    new: Annotated[str | None, typer.Argument(help="The new one, to compare two files.")] = None,
    against: Annotated[str, typer.Option(help="The Git revision to compare with, if one is given.")] = "HEAD",
    json_: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Report what a changed contract breaks; exit code 1 if its new version is too low for that."""
    from flows.recipe.paths import Project
    from retune.contracts.diff import diff_against, diff_files
    from retune.contracts.lint import find_contract

    path = find_contract(contract, Project())
    found = diff_files(path, find_contract(new, Project())) if new else diff_against(path, against)
    print(json.dumps(found.as_json(), ensure_ascii=False) if json_ else found.as_text())
    if found.problem:
        raise typer.Exit(1)
