"""Stop the run: a table breaks its contract, or too few rows are left to train on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.errors import ContractViolation
from tasks.core.home import Home
from tasks.validate.checkpoint import RuleResult
from tasks.validate.config import ValidateConfig
from tasks.validate.contracts.contract import Contract
from tasks.validate.waterfall.yields import KEPT

SHOWN = 12
IN_ALL = "minimum_rows"
LOST_TO = {"uncontaminated": "contamination ({})", "distinct": "{} duplicate"}
"""How messages name the rule that lost a row, by step of the waterfall; else by the rule alone."""


@dataclass(frozen=True)
class LostDocuments:
    """The training documents that their contract quarantined before any row was made from them.

    ``documents`` were checked; ``rules``: how many were lost by the first rule that each broke, most first.
    """

    documents: int
    rules: Mapping[str, int]
    quarantine: Path
    run_id: str

    @property
    def are_most(self) -> bool:
        """Whether at least half of the documents were lost."""
        return bool(self.rules) and sum(self.rules.values()) * 2 >= self.documents

    def describe(self) -> list[str]:
        """One line for a message; none if no document was lost."""
        if not self.rules:
            return []
        rules = _shortened([f"{count} to {rule}" for rule, count in self.rules.items()], "more rules")
        lost = f"{sum(self.rules.values())} of {self.documents} documents broke their contract and gave no row"
        sample = Home.from_environment().command(
            "quarantine", "sample", "--stage", "check_documents", "--run", self.run_id
        )
        listed = f"all: {self.quarantine}; some, with their texts: {sample}"
        return [f"before that, {lost}: lost {', '.join(rules)} ({listed})"]


def check_results(contract: Contract, results: Sequence[RuleResult], known: Sequence[str] = ()) -> None:
    """Raise ContractViolation if the table as a whole breaks the contract, with every such rule and what was observed.

    That is the case if a rule could not be run, a rule on the table failed, or more rows broke a rule than its
    ``mostly`` allows. ``known``: lines for the message on why the table is as it is.
    """
    broken = [result for result in results if _stops_the_run(result)]
    if not broken:
        return
    lines = "; ".join(f"{result.rule.name}: {_describe(result)}" for result in broken)
    raise ContractViolation(
        "\n".join([f"The rows break the contract {contract.name!r}: {lines}", *(f"  {line}" for line in known)]),
        where=broken[0].rule.where,
        remedy="look at the Data Docs and the quarantine; fix the prompts or the sources, or correct the rule",
    )


def _stops_the_run(result: RuleResult) -> bool:
    if result.exception is not None:
        return True
    concerns_the_table = result.failing is None or result.rule.tolerance_is_set
    return concerns_the_table and not result.success and result.rule.severity == "critical"


def _describe(result: RuleResult) -> str:
    if result.exception is not None:
        return f"{result.rule.expectation} could not be run: {result.exception}"
    wanted = {name: value for name, value in result.rule.arguments.items() if name != "column"}
    return f"{result.observed}, expected {result.rule.expectation}({wanted})"


def check_floors(
    config: ValidateConfig, losses: pa.Table, expected: Iterable[str], lost: LostDocuments
) -> dict[str, tuple[int, int]]:
    """Raise ContractViolation if too few rows are left, with what removed the others by prompt, source and label.

    Args:
        losses: every row that was asked for: :meth:`Outcome.losses`, and :func:`rejected_losses` without a label.
        expected: labels that must be there: those that the task names and the evaluation asks for.
        lost: documents that gave no row; if they are most documents, the remedy starts with them.

    Returns:
        the number of rows and its floor: in total (:data:`IN_ALL`), and by label if labels have a floor.
    """
    kept = losses.filter(pc.equal(losses["step"], KEPT))
    floor = config.minimum_rows_per_label
    counted = counts_of(kept["label"]) if floor else {}
    by_label = {label: (counted.get(label, 0), floor) for label in sorted({*counted, *expected})} if floor else {}
    short = {label: have for label, (have, _) in by_label.items() if have < floor}
    problems = [f"rows in all: {_short_by(kept.num_rows, config.minimum_rows)}"] * (kept.num_rows < config.minimum_rows)
    keys = ["minimum_rows"] * len(problems) + ["minimum_rows_per_label"] * bool(short)
    problems += [f"{label!r}: {_short_by(have, floor)}" for label, have in short.items()]
    if problems:
        lines = [*lost.describe(), *_where_rows_were_lost(losses, list(short)[:SHOWN])]
        first = "fix the documents or the rule that removed most of them; else " * lost.are_most
        raise ContractViolation(
            "\n  ".join([f"Too little is left to train on: {'; '.join(_shortened(problems, 'more', ''))}", *lines]),
            where=", ".join(f"validate.{key}" for key in keys),
            remedy=f"{first}fix what loses most rows, write more rows per document, or lower the floor",
        )
    return {IN_ALL: (kept.num_rows, config.minimum_rows), **by_label}


def _where_rows_were_lost(losses: pa.Table, labels: Iterable[str]) -> list[str]:
    lines = [*describe_losses(losses, "prompt"), *describe_losses(losses, "source")]
    for label in labels:
        rows = losses.filter(pc.equal(losses["label"], label))
        by_prompt = describe_losses(rows, "prompt") if rows.num_rows else ["no row came in with this answer"]
        lines += [f"label {label!r}, {line}" for line in by_prompt]
    return lines or ["there were no rows"]


def describe_losses(losses: pa.Table, by: str) -> list[str]:
    """A line for each prompt or source, largest loss first: rows in, rows kept, and what removed the others."""
    counted = losses.group_by([by, "step", "rule"]).aggregate([([], "count_all")])
    groups: dict[str, dict[str, int]] = {}
    columns = (counted[key].to_pylist() for key in (by, "step", "rule", "count_all"))
    for name, step, rule, count in zip(*columns, strict=True):
        reason = KEPT if step == KEPT else LOST_TO.get(step, "{}").format(rule)
        group = groups.setdefault(str(name), {})
        group[reason] = group.get(reason, 0) + count
    ordered = sorted(groups.items(), key=lambda item: (item[1].get(KEPT, 0) - sum(item[1].values()), item[0]))
    return _shortened([f"{by} {name}: {_losses(counts)}" for name, counts in ordered], "more")


def counts_of(values: pa.ChunkedArray | pa.Array) -> dict[str, int]:
    """The count of each text, in alphabetical order; nulls are not counted."""
    counted = pc.value_counts(values).to_pylist()
    return dict(sorted((pair["values"], pair["counts"]) for pair in counted if pair["values"] is not None))


def _shortened(items: Sequence[str], more: str, conjunction: str = "and ") -> list[str]:
    left = len(items) - SHOWN
    return [*items[:SHOWN], *([f"{conjunction}{left} {more}"] if left > 0 else [])]


def _short_by(have: int, wanted: int) -> str:
    return f"{have} of {wanted} ({wanted - have} short)"


def _losses(counts: Mapping[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    lost = ", ".join(f"{count} to {reason}" for reason, count in ordered if reason != KEPT)
    return f"{sum(counts.values())} rows in, {counts.get(KEPT, 0)} kept{f', lost {lost}' if lost else ''}"
