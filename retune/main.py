"""The ``retune`` command. Each command imports what it needs when it runs, so that all of them start fast."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from retune.contracts.commands import contracts_app
from retune.environment import prepare_environment
from retune.models.commands import models_app
from retune.prompts.commands import prompts_app
from retune.quarantine.commands import quarantine_app
from tasks.core.errors import RetuneError
from tasks.core.home import Home

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.add_typer(prompts_app, name="prompts")
app.add_typer(quarantine_app, name="quarantine")
app.add_typer(contracts_app, name="contracts")
app.add_typer(models_app, name="model")
RecipeOption = Annotated[str, typer.Option(help="A name in deployments/recipes, or a recipe file's path.")]
INTERRUPTED = 130


@app.callback()
def _root(verbose: Annotated[bool, typer.Option(help="Show tracebacks and Prefect's own log.")] = False) -> None:
    """Retrain a language-model adapter every night."""


@app.command()
def run(recipe: RecipeOption = "embedded") -> None:
    """Run the whole night now, then print its report."""
    from tasks.core.lock import require_unlocked

    home = Home.from_environment()
    require_unlocked(home)
    from retune.run import run_night

    run_night(recipe, home)


@app.command()
def check(
    recipe: Annotated[str, typer.Argument(help="A name in deployments/recipes, or a recipe file's path.")] = "embedded",
) -> None:
    """Check all that a night checks before it starts, and start nothing."""
    from flows.night.preparation import check_before_start

    home = Home.from_environment()
    ready = check_before_start(recipe, home)
    print(f"{ready.name}: sources, prompts, contracts, task, models and machine are as a night needs them")
    print(f"start one: {home.command('run', recipe=ready.reference)}")


@app.command()
def report(
    json_: Annotated[bool, typer.Option("--json", help="One JSON object; rates as fractions.")] = False,
    run_id: Annotated[str | None, typer.Option("--run", help="Which run; the latest by default.")] = None,
) -> None:
    """Report what the latest run did, and why."""
    from dataclasses import asdict

    from flows.report.record import read_record

    record = read_record(Home.from_environment(), run_id)
    if json_:
        print(json.dumps(asdict(record), ensure_ascii=False))
        return
    from retune.report import print_report

    print_report(record)


@app.command()
def plan(
    recipe: RecipeOption = "embedded",
    model_config: Annotated[
        Path | None, typer.Option(help="The model's config.json, if neither its folder nor the catalogue has it.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="One JSON object; bytes, seconds.")] = False,
    table: Annotated[
        bool,
        typer.Option("--table", help="Instead: model sizes against GPU sizes, in Markdown, as in docs/planning.md."),
    ] = False,
) -> None:
    """Count parameters, memory, tokens and time of a recipe's training, without loading weights."""
    if table:
        from tasks.train.planner import size_table

        print(size_table())
        return
    from flows.recipe.read import read_recipe
    from retune.plan import plan_recipe, print_plan

    planned = plan_recipe(read_recipe(recipe), Home.from_environment(), model_config)
    if json_:
        print(json.dumps(planned.as_json(), ensure_ascii=False))
    else:
        print_plan(planned)


@app.command()
def export(
    to: Annotated[Path, typer.Option(help="A new folder.")],
    recipe: RecipeOption = "embedded",
    form: Annotated[
        Literal["alpaca", "sharegpt", "openai"],
        typer.Option(help="How conversations are written; alpaca has no tool calls."),
    ] = "sharegpt",
) -> None:
    """Write the last training set that a recipe accepted, with a dataset_info.json, for LLaMA-Factory."""
    from flows.recipe.read import read_recipe
    from retune.export import export_training_set

    exported = read_recipe(recipe)
    done = export_training_set(Home.from_environment(), exported.name, form, to, exported.reference)
    typer.echo(done.as_text())


@app.command()
def serve_teacher(recipe: RecipeOption = "embedded") -> None:
    """Serve a recipe's teacher until Ctrl-C, so that preview and diff answer in seconds."""
    from flows.recipe.read import read_recipe
    from retune import teacher

    teacher.serve_teacher(read_recipe(recipe), Home.from_environment())


@app.command()
def doctor(vllm: Annotated[bool, typer.Option(help="Also start vLLM on the seedling.")] = True) -> None:
    """Check what a night needs, and report how to fix what is missing."""
    from retune.doctor import examine, print_checks

    checks = examine(Home.from_environment(), vllm)
    print_checks(checks)
    if not all(check.ok for check in checks):
        raise typer.Exit(1)


@app.command()
def up(port: Annotated[int, typer.Option(help="Of the Prefect server, on 127.0.0.1.")] = 4200) -> None:
    """Run Prefect server, work pool, deployments and worker in one; Ctrl-C ends them all."""
    from retune import up

    up.serve(Home.from_environment(), port)


@app.command()
def rollback(
    recipe: RecipeOption = "embedded",
    to: Annotated[str | None, typer.Option(help="A version, or 'none'; the previous champion by default.")] = None,
) -> None:
    """Move the alias 'champion' back, and report what was done."""
    from flows.rollback import roll_back

    typer.echo(roll_back(recipe, to))


def main() -> None:
    """Run the command: errors are one clear message, and a traceback only with ``--verbose``."""
    verbose = "--verbose" in sys.argv
    sys.argv = [word for word in sys.argv if word != "--verbose"]  # allowed before or after the command
    try:
        home = Home.from_environment()
    except RetuneError as error:
        _explain(error, str(error), verbose)
        sys.exit(1)
    prepare_environment(home, verbose=verbose)
    # A shell starts background jobs with SIGINT ignored; either signal ends the run and its children in good order.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        # Typer returns the status of an early exit, and of an interruption, which it catches.
        status = app(standalone_mode=False) or 0
    except RetuneError as error:
        _explain(error, str(error), verbose)
        sys.exit(1)
    except OSError as error:
        _explain(error, f"{error}\n  remedy: check that {home.root} (RETUNE_HOME) can be written", verbose)
        sys.exit(1)
    except Exception as error:
        if hasattr(error, "format_message"):
            _explain(error, f"{error.format_message()}\n  remedy: see retune --help", verbose)
            sys.exit(2)
        _explain(error, f"{type(error).__name__}: {error}\n  remedy: --verbose shows the traceback", verbose)
        sys.exit(1)
    if status == INTERRUPTED:
        print("interrupted; the next run continues from here", file=sys.stderr)
    sys.exit(status)


def _explain(error: BaseException, text: str, verbose: bool) -> None:
    if verbose:
        import traceback

        traceback.print_exception(error)
    print("\n".join([f"error: {text}", *getattr(error, "__notes__", [])]), file=sys.stderr)
