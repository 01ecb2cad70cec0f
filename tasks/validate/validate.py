"""Rows in, a training set out: what breaks the contract, repeats another row or leaks the holdout is set aside."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from tasks.core.artifacts import REPORT_FOLDER, ArtifactRef, StageKey, Summary
from tasks.core.errors import ContractViolation
from tasks.core.files import canonical_json, file_digest
from tasks.core.messages import why_invalid
from tasks.core.stage import StageContext
from tasks.validate.checkpoint import Finding, run_checkpoint
from tasks.validate.config import ValidateConfig
from tasks.validate.contamination import find_contamination
from tasks.validate.contract import Rule, contract_columns, read_contract
from tasks.validate.duplicates import find_duplicates
from tasks.validate.judge import check_findings, check_floors
from tasks.validate.rows import (
    COLLECTED,
    read_answers,
    read_rows,
    read_user_texts,
    write_duplicates,
    write_quarantine,
    write_training_set,
)

VERSION = 2
DATA_DOCS = "data_docs"
MOST_LABELS = 100
"""More distinct answers than this are free text, not labels, and are not counted one by one."""


@dataclass(frozen=True)
class ValidateJob:
    """Everything the stage reads.

    Attributes:
        config: the recipe's section.
        collected: the documents and the holdout.
        generated: the written rows, or None where nothing is generated.
        fields: the recipe's fields, as the contract may name them.
    """

    config: ValidateConfig
    collected: ArtifactRef
    generated: ArtifactRef | None
    fields: tuple[str, ...]

    def key(self) -> StageKey:
        """What determines the training set."""
        return StageKey(
            stage="validate",
            version=VERSION,
            config={"validate": self.config.model_dump(mode="json", exclude={"contract"}), "fields": self.fields},
            inputs=[ref for ref in (self.collected, self.generated) if ref is not None],
            files={"contract": file_digest(Path(self.config.contract))},
            libraries=("great-expectations", "rensa", "pandas"),
        )

    def fill(self, folder: Path, context: StageContext) -> Summary:
        """Write the training set, the quarantine, the duplicates and the Data Docs.

        Raises:
            ContractViolation: the table as a whole breaks the contract, or too little is left. What was found is
                then kept beside the run's logs.
        """
        try:
            return self._fill(folder)
        except ContractViolation:
            evidence = context.log("validate").with_suffix("")
            shutil.copytree(folder, evidence, dirs_exist_ok=True)
            raise

    def _fill(self, folder: Path) -> Summary:
        contract = read_contract(Path(self.config.contract), contract_columns(self.fields))
        rows = self._rows()
        checked = rows[list(contract_columns(self.fields))].assign(messages=rows["messages"].map(canonical_json))
        findings = run_checkpoint(contract, checked, folder / REPORT_FOLDER / DATA_DOCS)
        breaches = pd.concat(
            [*contract_breaches(findings, checked), message_breaches(rows), self._contamination(rows)],
            ignore_index=True,
        )
        sound = rows[~rows.index.isin(breaches["row"])]
        duplicates = self._duplicates(sound)
        accepted = sound[~sound.index.isin(duplicates["row"])]
        write_quarantine(folder / "quarantine.parquet", quarantine(rows, breaches))
        write_duplicates(folder / "duplicates.parquet", duplicates)
        write_training_set(folder / "training_set.parquet", accepted)
        labels = {str(label): int(count) for label, count in accepted["assistant_text"].value_counts().items()}
        check_findings(contract, findings)
        check_floors(self.config, labels, self._labels_to_learn(), losses(rows, breaches, duplicates), len(accepted))
        return summary(rows, accepted, breaches, duplicates, reported_only(findings))

    def _rows(self) -> pd.DataFrame:
        collected = self.collected.folder / "train.parquet" if self.config.include_collected else None
        generated = self.generated.folder / "rows.parquet" if self.generated else None
        return read_rows(collected, generated, self.fields)

    def _contamination(self, rows: pd.DataFrame) -> pd.DataFrame:
        holdout = read_user_texts(self.collected.folder / "holdout.parquet")
        found = find_contamination(list(rows["user_text"]), list(holdout), self.config.contamination)
        return _breaches(list(found), "contamination", [str(holdout.index[near]) for near in found.values()])

    def _duplicates(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The duplicates among rows: ``row`` (index label), row_id, kind, duplicate_of (a row id) and text."""
        found = find_duplicates(list(rows["user_text"]), self.config.near_duplicates)
        dropped = rows.iloc[[duplicate.position for duplicate in found]]
        return pd.DataFrame(
            {
                "row": dropped.index,
                "row_id": dropped["row_id"].to_numpy(),
                "kind": [duplicate.kind for duplicate in found],
                "duplicate_of": rows["row_id"].iloc[[duplicate.original for duplicate in found]].to_numpy(),
                "text": dropped["user_text"].to_numpy(),
            }
        )

    def _labels_to_learn(self) -> set[str]:
        wanted = self.config.minimum_rows_per_label > 0
        return read_answers(self.collected.folder / "holdout.parquet") if wanted else set()


def contract_breaches(findings: Sequence[Finding], checked: pd.DataFrame) -> list[pd.DataFrame]:
    """The rows that break a critical rule; warnings are reported and quarantine nothing."""
    return [
        _breaches(list(finding.failing), finding.rule.name, _values(checked.iloc[finding.failing], finding.rule))
        for finding in findings
        if finding.failing is not None and finding.rule.severity == "critical"
    ]


def message_breaches(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows whose conversation cannot be trained on."""
    reasons = rows["messages"].map(why_invalid)
    unfit = rows.index[reasons.notna()]
    return _breaches(list(unfit), [f"messages: {why}" for why in reasons[unfit]], [""] * len(unfit))


def quarantine(rows: pd.DataFrame, breaches: pd.DataFrame) -> pd.DataFrame:
    """One line a rejected row, its rules and values joined by "; "."""
    joined = breaches.groupby("row", sort=True)[["rule", "value"]].agg("; ".join)
    return rows.loc[joined.index, ["row_id", "raw", "prompt", "document_id"]].assign(**joined)


def losses(rows: pd.DataFrame, breaches: pd.DataFrame, duplicates: pd.DataFrame) -> pd.DataFrame:
    """Every row with each rule it was lost to (None: accepted): row, prompt, rule."""
    lost_to = pd.concat(
        [breaches[["row", "rule"]], duplicates[["row"]].assign(rule=duplicates["kind"].astype(object) + " duplicate")]
    )
    every = pd.DataFrame({"row": rows.index, "prompt": _prompts(rows)})
    return every.merge(lost_to, how="left", on="row")


def reported_only(findings: Sequence[Finding]) -> dict[str, str]:
    """What rules of severity warning and info found."""
    return {
        finding.rule.name: finding.observed
        for finding in findings
        if finding.rule.severity != "critical" and not finding.success
    }


def summary(
    rows: pd.DataFrame,
    accepted: pd.DataFrame,
    breaches: pd.DataFrame,
    duplicates: pd.DataFrame,
    warnings: Mapping[str, str],
) -> Summary:
    """The counts of the stage, in all, by rule, by prompt and by label."""
    quarantined = breaches["row"].unique()
    outcome = pd.Series("accepted", index=rows.index, dtype=object)
    outcome[quarantined] = "quarantined"
    outcome[duplicates["row"]] = "duplicates"
    labels = accepted["assistant_text"].value_counts().sort_index()
    details: dict[str, Any] = {
        "rules": {str(rule): int(count) for rule, count in breaches["rule"].value_counts().items()},
        "by_prompt": {
            str(prompt): {"rows_in": len(group), **_outcomes(group)}
            for prompt, group in outcome.groupby(_prompts(rows))
        },
        "labels": {str(label): int(count) for label, count in labels.items()} if len(labels) <= MOST_LABELS else {},
        "warnings": dict(warnings),
    }
    return Summary(len(rows), len(accepted), len(quarantined), len(duplicates), details)


def _outcomes(group: pd.Series) -> dict[str, int]:
    return {name: int((group == name).sum()) for name in ("accepted", "quarantined", "duplicates")}


def _prompts(rows: pd.DataFrame) -> pd.Series:
    """The prompt that wrote each row; of a collected one its origin, in brackets that no prompt's name can have."""
    return rows["prompt"].where(rows["origin"] != COLLECTED, f"({COLLECTED})").fillna("(unknown)").astype(object)


def _breaches(positions: Sequence[Any], rule: str | Sequence[str], values: Sequence[str]) -> pd.DataFrame:
    columns = {"rule": rule, "value": list(values)}
    return pd.DataFrame({"row": pd.Series(positions, dtype="int64"), **columns}).astype(
        {"rule": object, "value": object}
    )


def _values(failing: pd.DataFrame, rule: Rule) -> list[str]:
    """What stood in the rule's columns in the rows that break it: one value as it is, several as a JSON list."""
    found = failing[list(dict.fromkeys(rule.columns))].astype(object)
    if len(found.columns) == 1:
        return ["null" if pd.isna(value) else str(value) for value in found.iloc[:, 0]]
    return [canonical_json(values) for values in found.where(found.notna(), None).to_numpy().tolist()]
