"""Runs that Prefect and a record hold to be running although no process executes them: after a power cut, or a kill.

Such a run would hold the only slot of its deployment for good: Prefect cancels every later run of it.
"""

from __future__ import annotations

import contextlib
from uuid import UUID

from prefect import get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import ObjectNotFound
from prefect.states import Crashed

from flows.report.record import end_killed_records
from tasks.core.home import Home
from tasks.core.lock import running_flow
from tasks.core.progress import say

UNFINISHED = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
MESSAGE = "No process executes this run any more; its process was killed, or the machine stopped."


def end_dead_runs(home: Home, own: str) -> None:
    """End the records of runs that were killed, and their runs in Prefect; the caller, run ``own``, holds the lock."""
    for record in end_killed_records(home, own):
        say(f"  run {record.run_id} was killed: it is marked as failed")
        if not record.flow_run_id:
            continue
        try:
            with get_client(sync_client=True) as client, contextlib.suppress(ObjectNotFound):
                _crash(client, client.read_flow_run(UUID(record.flow_run_id)))
        except Exception as error:  # another night may find Prefect's server as it was
            say(f"  in Prefect it could not be marked as crashed: {type(error).__name__}: {error}")


def end_dead_runs_of_server(home: Home) -> None:
    """Mark all unfinished runs of a server as crashed, before its worker starts; the run that holds the lock lives."""
    unfinished = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=UNFINISHED)))
    living = running_flow(home)
    with get_client(sync_client=True) as client:
        for run in client.read_flow_runs(flow_run_filter=unfinished):
            if str(run.id) != living:
                say(f"run {run.name} ({run.id}) was killed: marking it as crashed")
                _crash(client, run)


def _crash(client: SyncPrefectClient, run: FlowRun) -> None:
    if run.state is not None and run.state.type in UNFINISHED:
        client.set_flow_run_state(run.id, Crashed(message=MESSAGE))
