"""The ``retune`` command."""

from __future__ import annotations

import json
import signal
import sys
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.report.record import RunRecord, read_record
from retune.contracts.commands import contracts_app
from retune.environment import prepare_environment
from retune.export_command import export
from retune.plan_command import plan
from retune.prompts.commands import prompts_app
from retune.quarantine.commands import quarantine_app
from retune.report import print_report
from retune.teacher_command import serve_teacher
from tasks.core.errors import RetuneError
from tasks.core.home import Home

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
out = Console(highlight=False)
app.add_typer(prompts_app, name="prompts")
app.add_typer(quarantine_app, name="quarantine")
app.add_typer(contracts_app, name="contracts")
app.command("serve-teacher")(serve_teacher)
app.command()(export)
app.command()(plan)
RecipeOption = Annotated[str, typer.Option(help="A name in deployments/recipes, or a recipe file's path.")]
INTERRUPTED = 130


@app.callback()
def _root(
    verbose: Annotated[bool, typer.Option(help="Show tracebacks and Prefect's own log.")] = False,
) -> None:
    """Retrain a language-model adapter every night."""


@app.command()
def run(recipe: RecipeOption = "embedded") -> None:
    """Run the whole night now, and end with its report."""
    home = Home.from_environment()
    _check(recipe, home)
    from retune.prefect_server import prefect_api

    with prefect_api(home):
        from flows.nightly import nightly_retraining

        ended: dict[str, Any] = nightly_retraining(recipe)
    print_report(read_record(home, ended["run_id"]))


def _check(recipe: str, home: Home) -> None:
    """Find what is wrong before anything is started. A run that this stops leaves its record, as every run does; a name
    that is no recipe's is a mistyped command."""
    from flows.recipe.checks import check_recipe
    from flows.recipe.read import read_recipe, recipe_path
    from flows.report.page import write_page

    recipe_path(recipe)
    try:
        check_recipe(read_recipe(recipe))
    except BaseException as error:
        record = RunRecord.start(home, recipe, "")
        record.fail(error)
        write_page(record)
        raise


@app.command()
def report(
    json_: Annotated[bool, typer.Option("--json", help="One JSON object; rates as fractions.")] = False,
    run_id: Annotated[str | None, typer.Option("--run", help="Which run; the latest by default.")] = None,
) -> None:
    """Say what the latest run did, and why."""
    record = read_record(Home.from_environment(), run_id)
    if json_:
        print(json.dumps(asdict(record), ensure_ascii=False))
    else:
        print_report(record)


@app.command()
def doctor(
    vllm: Annotated[bool, typer.Option(help="Also start vLLM on the seedling.")] = True,
) -> None:
    """Check what a night needs, and say how to mend what is missing."""
    from retune.doctor import examine

    findings = examine(Home.from_environment(), vllm)
    table = Table("", "what", "state", "remedy")
    for finding in findings:
        mark = "[green]ok[/]" if finding.ok else "[red]bad[/]"
        table.add_row(mark, finding.what, escape(finding.state), "" if finding.ok else escape(finding.remedy))
    out.print(table)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


@app.command()
def up(port: Annotated[int, typer.Option(help="Of the Prefect server, on 127.0.0.1.")] = 4200) -> None:
    """Prefect server, work pool, deployments and worker in one; Ctrl-C ends them all."""
    from retune.up import up as serve

    serve(Home.from_environment(), port)


@app.command()
def rollback(
    recipe: RecipeOption = "embedded",
    to: Annotated[str | None, typer.Option(help="A version, or 'none'; the champion before by default.")] = None,
) -> None:
    """Move the alias 'champion' back, and say what was done."""
    from flows.rollback import roll_back

    out.print(roll_back(recipe, to), soft_wrap=True, markup=False)


def main() -> None:
    """Run the command: errors are one clear message, and a traceback only with ``--verbose``."""
    verbose = "--verbose" in sys.argv
    sys.argv = [word for word in sys.argv if word != "--verbose"]  # it may stand before or after the command
    home = Home.from_environment()
    prepare_environment(home, verbose=verbose)
    # A shell starts background jobs with SIGINT ignored; either signal ends the run and its children in good order.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        # Typer hands back the status of an early exit, and of an interruption, which it catches.
        status = app(standalone_mode=False) or 0
    except RetuneError as error:
        _explain(error, str(error), verbose)
        sys.exit(1)
    except OSError as error:
        _explain(error, f"{error}\n  remedy: see that {home.root} (RETUNE_HOME) can be written", verbose)
        sys.exit(1)
    except Exception as error:
        if hasattr(error, "format_message"):
            _explain(error, f"{error.format_message()}\n  remedy: see retune --help", verbose)
            sys.exit(2)
        _explain(error, f"{type(error).__name__}: {error}\n  remedy: --verbose shows the traceback", verbose)
        sys.exit(1)
    if status == INTERRUPTED:
        Console(stderr=True).print("interrupted; the next run goes on from here")
    sys.exit(status)


def _explain(error: BaseException, text: str, verbose: bool) -> None:
    errors = Console(stderr=True, highlight=False)
    if verbose:
        import traceback

        errors.print("".join(traceback.format_exception(error)), markup=False, soft_wrap=True)
    notes = getattr(error, "__notes__", [])
    errors.print("\n".join([f"error: {text}", *notes]), markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
