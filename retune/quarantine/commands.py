"""``retune quarantine``: find out where rows went, and validate them again."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from tasks.core.home import Home

quarantine_app = typer.Typer(
    no_args_is_help=True, help="Count, sample and follow the rows that a run set aside, and validate them again."
)
RunOption = Annotated[str | None, typer.Option("--run", help="Which run; the latest that read documents by default.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object.")]


@quarantine_app.command("list")
def count(run_id: RunOption = None, json_: JsonOption = False) -> None:
    """Count the rows that a run set aside, by stage, rule, prompt and source."""
    from retune.quarantine.counts import count_lost_rows
    from retune.quarantine.run_files import find_run

    counts = count_lost_rows(find_run(Home.from_environment(), run_id))
    if json_:
        print(json.dumps(counts.as_json(), ensure_ascii=False))
        return
    from retune.quarantine.print_rows import print_counts
    from retune.terminal import out

    print_counts(out, counts)


@quarantine_app.command()
def sample(
    stage: Annotated[
        str | None, typer.Option(help="collect, check_documents, generate, validate, train or evaluate.")
    ] = None,
    rule: Annotated[str | None, typer.Option(help="A rule as `retune quarantine list` names it.")] = None,
    prompt: Annotated[str | None, typer.Option(help="A prompt's name, or '(collected)'.")] = None,
    rows: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 5,
    seed: Annotated[int, typer.Option(help="The same seed draws the same rows.")] = 0,
    run_id: RunOption = None,
    json_: JsonOption = False,
) -> None:
    """Show some of the rows that a run set aside, with values and raw answers."""
    from retune.quarantine.print_rows import print_sample
    from retune.quarantine.run_files import find_run
    from retune.quarantine.samples import sample_lost_rows
    from retune.terminal import out

    files = find_run(Home.from_environment(), run_id)
    found = sample_lost_rows(files, stage=stage, rule=rule, prompt=prompt, rows=rows, seed=seed)
    print(json.dumps(found.as_json(), ensure_ascii=False)) if json_ else print_sample(out, found)


@quarantine_app.command()
def show(
    row_id: Annotated[
        str, typer.Argument(help="Of a generated row; a document's id, held out or not; or SOURCE:LINE.")
    ],
    run_id: RunOption = None,
    json_: JsonOption = False,
) -> None:
    """Trace one row to the rules it broke, its prompt, its document and the teacher's raw answer."""
    from retune.quarantine.print_rows import print_trace
    from retune.quarantine.row_trace import trace_row
    from retune.quarantine.run_files import find_run
    from retune.terminal import out

    home = Home.from_environment()
    found = trace_row(find_run(home, run_id), home, row_id)
    print(json.dumps(found.as_json(), ensure_ascii=False, default=str)) if json_ else print_trace(out, found)


@quarantine_app.command()
def replay(
    run_id: RunOption = None,
    recipe: Annotated[
        str | None, typer.Option(help="Whose contracts apply, a name or a file; the run's own by default.")
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Validate a run's rows again after a contract was changed, without asking the teacher."""
    from retune.quarantine.print_rows import print_replay
    from retune.quarantine.replay import replay as validate_again
    from retune.quarantine.run_files import find_run
    from retune.terminal import out

    home = Home.from_environment()
    done = validate_again(find_run(home, run_id), home, recipe)
    print(json.dumps(done.as_json(), ensure_ascii=False)) if json_ else print_replay(out, done)
