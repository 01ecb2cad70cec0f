"""What stops the run: a contract broken as a whole, or too little left to train on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from tasks.core.errors import ContractViolation
from tasks.validate.checkpoint import Finding
from tasks.validate.config import ValidateConfig
from tasks.validate.contract import Contract

SHOWN = 12


def check_findings(contract: Contract, findings: Sequence[Finding]) -> None:
    """Stop where the table as a whole breaks the contract.

    That is: a rule could not be run; a rule on the table failed; more rows broke a rule than its ``mostly`` allows.

    Raises:
        ContractViolation: with every such rule and what was observed.
    """
    broken = [finding for finding in findings if _stops_the_run(finding)]
    if not broken:
        return
    lines = "; ".join(f"{finding.rule.name}: {_what_happened(finding)}" for finding in broken)
    raise ContractViolation(
        f"The rows break the contract {contract.name!r}: {lines}",
        where=broken[0].rule.where,
        remedy="look at the Data Docs and the quarantine; mend the prompts or the sources, or correct the rule",
    )


def _stops_the_run(finding: Finding) -> bool:
    if finding.exception is not None:
        return True
    concerns_the_table = finding.failing is None or finding.rule.tolerance_is_set
    return concerns_the_table and not finding.success and finding.rule.severity == "critical"


def _what_happened(finding: Finding) -> str:
    if finding.exception is not None:
        return f"{finding.rule.expectation} could not be run: {finding.exception}"
    wanted = {name: value for name, value in finding.rule.arguments.items() if name != "column"}
    return f"{finding.observed}, expected {finding.rule.expectation}({wanted})"


def check_floors(
    config: ValidateConfig, labels: Mapping[str, int], expected: Iterable[str], losses: pd.DataFrame, accepted: int
) -> None:
    """Stop where too few rows are left.

    Args:
        config: the floors.
        labels: accepted rows by the assistant's answer.
        expected: answers that must be there: those the evaluation will ask for.
        losses: as :func:`describe_losses` takes them.
        accepted: accepted rows.

    Raises:
        ContractViolation: saying what fell short by how much, and per prompt what the rows were lost to.
    """
    floor = config.minimum_rows_per_label
    counts = {label: labels.get(label, 0) for label in sorted({*labels, *expected})}
    short = [f"{label!r}: {count} of {floor} ({floor - count} short)" for label, count in counts.items()
             if count < floor]  # fmt: skip
    problems = []
    if accepted < config.minimum_rows:
        missing = config.minimum_rows - accepted
        problems.append(("minimum_rows", f"{accepted} of {config.minimum_rows} rows ({missing} short)"))
    if short:
        more = f" and {len(short) - SHOWN} more" if len(short) > SHOWN else ""
        problems.append(("minimum_rows_per_label", "; ".join(short[:SHOWN]) + more))
    if problems:
        raise ContractViolation(
            f"Too little is left to train on: {'; '.join(text for _, text in problems)}\n{describe_losses(losses)}",
            where=", ".join(f"validate.{key}" for key, _ in problems),
            remedy="mend what loses most rows, write more rows per document, or lower the floor",
        )


def describe_losses(losses: pd.DataFrame) -> str:
    """Per prompt, how many rows came in, and how many each rule took.

    Args:
        losses: one row for every rule that a row broke (``rule`` None for an accepted row), with ``prompt`` and
            ``row`` (its position).
    """
    lines = []
    for prompt, group in losses.groupby("prompt", sort=True):
        taken = ", ".join(f"{rule}: {count}" for rule, count in group["rule"].value_counts().items())
        lines.append(f"  {prompt}: {group['row'].nunique()} rows in; lost to {taken or 'nothing'}")
    return "\n".join(lines) or "  there were no rows"
