"""What stops the run: a contract broken as a whole, or too little left to train on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.errors import ContractViolation
from tasks.validate.checkpoint import RuleResult
from tasks.validate.config import ValidateConfig
from tasks.validate.contracts.contract import Contract

SHOWN = 12
KEPT, IN_ALL = "kept", "minimum_rows"


@dataclass(frozen=True)
class LostDocuments:
    """The training documents that their contract took before any row was made of them.

    Attributes:
        documents: how many were held against the contract.
        rules: how many it took, by the first rule that each broke, most first.
        quarantine: the file that holds them.
    """

    documents: int
    rules: Mapping[str, int]
    quarantine: Path

    @property
    def are_most(self) -> bool:
        """Whether at least half of the documents were lost."""
        return bool(self.rules) and sum(self.rules.values()) * 2 >= self.documents

    def describe(self) -> list[str]:
        """One line for a message; none where no document was lost."""
        if not self.rules:
            return []
        rules = [f"{count} to {rule}" for rule, count in self.rules.items()]
        more = [f"and {len(rules) - SHOWN} more rules"] * (len(rules) > SHOWN)
        lost = f"{sum(self.rules.values())} of {self.documents} documents broke their contract and gave no row"
        listed = f"all: {self.quarantine}; some, with their texts: retune quarantine sample --stage check_documents"
        return [f"before that, {lost}: lost {', '.join([*rules[:SHOWN], *more])} ({listed})"]


def check_findings(contract: Contract, findings: Sequence[RuleResult], known: Sequence[str] = ()) -> None:
    """Stop where the table as a whole breaks the contract.

    That is: a rule could not be run; a rule on the table failed; more rows broke a rule than its ``mostly`` allows.

    Args:
        contract, findings: what was held against the table, and what came of it.
        known: lines on why the table is as it is, for the message.

    Raises:
        ContractViolation: with every such rule and what was observed.
    """
    broken = [finding for finding in findings if _stops_the_run(finding)]
    if not broken:
        return
    lines = "; ".join(f"{finding.rule.name}: {_what_happened(finding)}" for finding in broken)
    raise ContractViolation(
        "\n".join([f"The rows break the contract {contract.name!r}: {lines}", *(f"  {line}" for line in known)]),
        where=broken[0].rule.where,
        remedy="look at the Data Docs and the quarantine; mend the prompts or the sources, or correct the rule",
    )


def _stops_the_run(finding: RuleResult) -> bool:
    if finding.exception is not None:
        return True
    concerns_the_table = finding.failing is None or finding.rule.tolerance_is_set
    return concerns_the_table and not finding.success and finding.rule.severity == "critical"


def _what_happened(finding: RuleResult) -> str:
    if finding.exception is not None:
        return f"{finding.rule.expectation} could not be run: {finding.exception}"
    wanted = {name: value for name, value in finding.rule.arguments.items() if name != "column"}
    return f"{finding.observed}, expected {finding.rule.expectation}({wanted})"


def check_floors(
    config: ValidateConfig, fates: pa.Table, expected: Iterable[str], lost: LostDocuments
) -> dict[str, tuple[int, int]]:
    """Stop where too few rows are left.

    Args:
        config: the floors.
        fates: every row that came in: its ``prompt``, its document's ``source``, its ``label`` (what the assistant
            answers) and its ``fate``: :data:`KEPT`, or what took it. Rows that were asked for and never written
            are among them, without a label.
        expected: answers that must be there: those that the task names and the evaluation asks for.
        lost: documents that gave no row; where they are most, the remedy begins with them.

    Returns:
        how many rows there are and how many are wanted: in all (:data:`IN_ALL`), and by label where that has a floor.

    Raises:
        ContractViolation: saying what fell short by how much, and by prompt, by source and for each label that fell
            short how many rows came in, how many were kept, and what took the others.
    """
    kept = fates.filter(pc.equal(fates["fate"], KEPT))
    floor = config.minimum_rows_per_label
    counted = counts_of(kept["label"]) if floor else {}
    by_label = {label: (counted.get(label, 0), floor) for label in sorted({*counted, *expected})} if floor else {}
    short = {label: have for label, (have, _) in by_label.items() if have < floor}
    problems = [f"rows in all: {_short_by(kept.num_rows, config.minimum_rows)}"] * (kept.num_rows < config.minimum_rows)
    keys = ["minimum_rows"] * len(problems) + ["minimum_rows_per_label"] * bool(short)
    problems += [f"{label!r}: {_short_by(have, floor)}" for label, have in short.items()]
    if problems:
        more = [f"{len(problems) - SHOWN} more"] * (len(problems) > SHOWN)
        lines = [*lost.describe(), *_where_they_went(fates, list(short)[:SHOWN])]
        told = "\n".join(f"  {line}" for line in lines)
        first = "mend the documents or the rule that took most of them; else " * lost.are_most
        raise ContractViolation(
            f"Too little is left to train on: {'; '.join([*problems[:SHOWN], *more])}\n{told}",
            where=", ".join(f"validate.{key}" for key in keys),
            remedy=f"{first}mend what loses most rows, write more rows per document, or lower the floor",
        )
    return {IN_ALL: (kept.num_rows, config.minimum_rows), **by_label}


def _where_they_went(fates: pa.Table, labels: Iterable[str]) -> list[str]:
    """What took rows, by prompt and by source; of each of some labels by prompt."""
    lines = [*describe_losses(fates, "prompt"), *describe_losses(fates, "source")]
    for label in labels:
        rows = fates.filter(pc.equal(fates["label"], label))
        told = describe_losses(rows, "prompt") if rows.num_rows else ["no row came in with this answer"]
        lines += [f"label {label!r}, {line}" for line in told]
    return lines or ["there were no rows"]


def describe_losses(fates: pa.Table, by: str) -> list[str]:
    """By prompt or source, those that lost most first: how many rows came in and were kept, what took the others."""
    counted = fates.group_by([by, "fate"]).aggregate([([], "count_all")])
    groups: dict[str, dict[str, int]] = {}
    for name, fate, count in zip(*(counted[key].to_pylist() for key in (by, "fate", "count_all")), strict=True):
        groups.setdefault(str(name), {})[fate] = count
    ordered = sorted(groups.items(), key=lambda item: (item[1].get(KEPT, 0) - sum(item[1].values()), item[0]))
    lines = [f"{by} {name}: {_losses(counts)}" for name, counts in ordered[:SHOWN]]
    return [*lines, f"and {len(ordered) - SHOWN} more"] if len(ordered) > SHOWN else lines


def counts_of(values: pa.ChunkedArray | pa.Array) -> dict[str, int]:
    """How often each text is there, in the order of the alphabet; missing ones are not counted."""
    counted = pc.value_counts(values).to_pylist()
    return dict(sorted((pair["values"], pair["counts"]) for pair in counted if pair["values"] is not None))


def _short_by(have: int, wanted: int) -> str:
    return f"{have} of {wanted} ({wanted - have} short)"


def _losses(counts: Mapping[str, int]) -> str:
    taken = sorted(
        ((fate, count) for fate, count in counts.items() if fate != KEPT), key=lambda item: (-item[1], item[0])
    )
    lost = f", lost {', '.join(f'{count} to {fate}' for fate, count in taken)}" if taken else ""
    return f"{sum(counts.values())} rows in, {counts.get(KEPT, 0)} kept{lost}"
