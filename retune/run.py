"""``retune run``: check the recipe, run the night, print its report."""

from __future__ import annotations

from typing import Any

from flows.night.preparation import check_before_start
from flows.report.record import read_record
from retune.environment import log_libraries_to_file
from retune.prefect_server import prefect_api
from retune.report import print_report
from tasks.core.home import Home


def run_night(recipe: str, home: Home) -> None:
    """Run a recipe's whole night in this process, against the Prefect server that is found or started.

    Raises RetuneError: the recipe is not valid, or a stage failed; the run's record holds it too.
    """
    check_before_start(recipe, home)
    with prefect_api(home):
        from flows.nightly import nightly_retraining

        log_libraries_to_file(home)
        ended: dict[str, Any] = nightly_retraining(recipe)
    print_report(read_record(home, ended["run_id"]))
