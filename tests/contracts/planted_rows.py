"""Good and bad rows planted for the contracts that ship: ``planted/CONTRACT/good.jsonl`` and ``bad.jsonl``.

Rows of a contract's second table lie in ``planted/CONTRACT.TABLE``. A bad row says in ``caught_by`` which rule is meant
for it, or which rules, as a list. A column that a row leaves out is missing in it; ``messages`` is a list of turns.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from tasks.core.control_tokens import WELL_KNOWN
from tasks.core.files import canonical_json
from tasks.core.home import PROJECT_ROOT
from tasks.core.tables import Columns
from tasks.validate.checkpoint import RuleResult, run_checkpoint
from tasks.validate.contracts.columns import contract_columns, document_columns
from tasks.validate.contracts.contract import Contract, read_contract
from tasks.validate.contracts.rule import ContractContext
from tasks.validate.drift.drift import DRIFT_COLUMNS

CONTRACTS, PLANTED = PROJECT_ROOT / "data_contracts", Path(__file__).parent / "planted"
CONTEXT = ContractContext(str(PROJECT_ROOT / "seedling" / "model"), WELL_KNOWN)
COLUMNS: dict[str, Columns] = {
    "generated_rows": contract_columns(("message", "queue", "topic")),
    "chat_examples": contract_columns(()),
    "raw_documents": document_columns(()),
    "evaluation_set": document_columns(()),
    "training_set": contract_columns(()),
    "training_set.drift": DRIFT_COLUMNS,
}
"""The columns that the rows of each have, where it is checked."""

Row = dict[str, Any]


def contract_of(name: str) -> Contract:
    """One of :data:`COLUMNS`, for the columns there."""
    file, _, table = name.partition(".")
    return read_contract(CONTRACTS / f"{file}.odcs.yaml", COLUMNS[name], table=table or None, context=CONTEXT)


def planted(name: str) -> tuple[list[Row], list[Row]]:
    """The good and the bad rows."""
    good, bad = (
        [json.loads(line) for line in (PLANTED / name / f"{kind}.jsonl").read_text(encoding="utf-8").splitlines()]
        for kind in ("good", "bad")
    )
    return good, bad


def check(name: str, rows: list[Row], tmp_path: Path) -> dict[str, RuleResult]:
    """What each rule finds in these rows, by its name; all of them could be run."""
    table = pd.DataFrame([_as_seen(row) for row in rows], columns=list(COLUMNS[name]), dtype=object)
    findings = run_checkpoint(contract_of(name), table, tmp_path / "docs")
    assert {finding.rule.name: finding.exception for finding in findings if finding.exception} == {}
    return {finding.rule.name: finding for finding in findings}


def broken_by(findings: dict[str, RuleResult]) -> dict[int, set[str]]:
    """The rules that each row breaks, by position."""
    broken: dict[int, set[str]] = {}
    for name, finding in findings.items():
        for position in [] if finding.failing is None else finding.failing.tolist():
            broken.setdefault(position, set()).add(name)
    return broken


def meant_for(row: Row) -> set[str]:
    """The rules that a bad row is planted for."""
    named = row["caught_by"]
    return set(named) if isinstance(named, list) else {named}


def _as_seen(row: Row) -> Row:
    messages = row.get("messages")
    return row if messages is None or isinstance(messages, str) else {**row, "messages": canonical_json(messages)}
