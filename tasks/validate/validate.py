"""The validate stage: remove rows that break a contract, leak an evaluation text or repeat another row."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tasks.core import tables
from tasks.core.artifacts import ArtifactRef, StageKey, Summary
from tasks.core.files import file_digest, write_json
from tasks.core.models import model_digest
from tasks.core.stage import StageContext
from tasks.validate.boundary import LIBRARIES, context_key, contract_digests, kept_if_it_stops
from tasks.validate.check_documents import find_lost_documents
from tasks.validate.config import ValidateConfig
from tasks.validate.contamination.contamination import (
    Contaminated,
    EvaluationTexts,
    find_contamination,
    write_contaminated,
)
from tasks.validate.contamination.evaluation_sets import read_evaluation_sets
from tasks.validate.contracts.columns import contract_columns
from tasks.validate.contracts.contract import Contract, read_contract
from tasks.validate.contracts.rule import ContractContext
from tasks.validate.drift.profile import PROFILE, profile
from tasks.validate.duplicates.duplicates import Duplicates, find_duplicates
from tasks.validate.duplicates.meaning import add_same_meaning
from tasks.validate.duplicates.precedence import precedence
from tasks.validate.outcome import Outcome
from tasks.validate.quarantine import counts_by_rule, first_rules, write_quarantine
from tasks.validate.row_checks import ROWS, TRAINING_SET, RowChecks
from tasks.validate.rows import contexts, read_answers, read_documents, read_rows, write_training_set
from tasks.validate.stops import check_floors, describe_losses
from tasks.validate.waterfall.waterfall import Lost, count_losses, rejected_losses, write_waterfall

VERSION = 5
NOT_IN_KEY = {"contracts", "drift_window", "timeout_minutes"}
HOLDOUT = "holdout"
REPLAY = "-replay"
"""Ends the id under which a run's rows are validated again: commands name the run itself."""


@dataclass(frozen=True)
class ValidateJob:
    """The inputs of the stage.

    Attributes:
        collected: the collect stage's artifact, with all held-out documents.
        documents: the documents that kept their contracts.
        generated: the generated rows, or None without generation.
        fields: the recipe's fields, which the contracts may name.
        seed: of the control set and of samples.
        replay: sources of general data against forgetting, whose answers are not labels of the task.
    """

    config: ValidateConfig
    collected: ArtifactRef
    documents: ArtifactRef
    generated: ArtifactRef | None
    fields: tuple[str, ...]
    context: ContractContext
    seed: int = 3407
    replay: tuple[str, ...] = ()

    def key(self) -> StageKey:
        """What determines the training set."""
        contracts = {name: getattr(self.config.contracts, name) for name in (ROWS, TRAINING_SET)}
        sets = self.config.contamination.evaluation_sets
        files = {f"evaluation set: {name}": file_digest(Path(evaluation.path)) for name, evaluation in sets.items()}
        if self.config.same_meaning is not None:
            files["same_meaning.model"] = model_digest(self.config.same_meaning.model)
        shapes: dict[str, Any] = {"validate": _config_key(self.config), "context": context_key(self.context)}
        if self.replay:
            shapes["replay"] = sorted(self.replay)
        return StageKey(
            stage="validate",
            version=VERSION,
            config={**shapes, "fields": self.fields, "seed": self.seed},
            inputs=[ref for ref in (self.collected, self.documents, self.generated) if ref is not None],
            files={**contract_digests(contracts), **files},
            libraries=(*LIBRARIES, "rensa"),
        )

    def fill(self, folder: Path, context: StageContext) -> Summary:
        """Write the training set, the removed rows with reasons, the profile, the waterfall and the Data Docs.

        Raises ContractViolation if the table breaks a contract or too few rows are left; the files are then in the
        run's logs.
        """
        with kept_if_it_stops(folder, context, "validate"):
            context.on_progress(0.0, "reading rows")
            rows = read_rows(self._train, self._generated(tables.ROWS), self.fields, self.config.include_collected)
            checks = self._check_contracts(rows, folder, context)
            outcome = self._remove(checks, folder, context)
            context.on_progress(0.8, "writing the training set")
            losses, rejected = outcome.losses, rejected_losses(self._generated(tables.QUARANTINE), self._train)
            details = self._write(checks, outcome, folder)
            write_waterfall(folder, count_losses([losses, rejected]))
            lost = find_lost_documents(self.documents.folder, context.run_id.removesuffix(REPLAY))
            checks.stop_if_broken([*lost.describe(), *describe_losses(rejected, "prompt")])
            losses = pa.concat_tables([losses, rejected], promote_options="permissive")
            floors = check_floors(self.config, losses, self._labels_to_learn(), lost)
            rules = counts_by_rule(checks.breaches)
            return outcome.summary({"rules": rules, "warnings": checks.warnings, "floors": floors, **details})

    @property
    def _train(self) -> Path:
        return self.documents.folder / tables.TRAIN

    def _generated(self, table: str) -> Path | None:
        return self.generated.folder / table if self.generated else None

    def _contract(self, name: str) -> Contract:
        path = Path(getattr(self.config.contracts, name))
        return read_contract(path, contract_columns(self.fields), context=self.context)

    def _check_contracts(self, rows: pa.Table, folder: Path, context: StageContext) -> RowChecks:
        checks = RowChecks(rows, folder)
        if self.generated is not None:
            context.on_progress(0.1, "the contract of generated rows")
            checks.check_generated(self._contract(ROWS))
        context.on_progress(0.3, "the contract of the training set, row by row")
        checks.check_all(self._contract(TRAINING_SET))
        context.on_progress(0.4, "writing the quarantine")
        write_quarantine(folder / tables.QUARANTINE, rows, checks.breaches, self.fields)
        return checks

    def _remove(self, checks: RowChecks, folder: Path, context: StageContext) -> Outcome:
        rows, is_left = checks.rows, ~checks.is_quarantined
        broken = np.flatnonzero(~is_left)
        context.on_progress(0.5, "looking for leaks of evaluation texts")
        leaks = self._contamination(rows, np.flatnonzero(is_left))
        write_contaminated(folder / tables.CONTAMINATED, rows, leaks)
        context.on_progress(0.6, "looking for duplicates")
        is_left[leaks.positions] = False
        repeated = self._duplicates(rows, np.flatnonzero(is_left), context)
        _write_duplicates(folder / tables.DUPLICATES, rows, repeated)
        return Outcome(
            rows,
            Lost(broken, first_rules(checks.breaches, broken)),
            Lost(leaks.positions, pa.array(leaks.sets, pa.string())),
            Lost(repeated.position, pa.array(repeated.kind, pa.string())),
            self.replay,
        )

    def _write(self, checks: RowChecks, outcome: Outcome, folder: Path) -> dict[str, Any]:
        """Write the training set, its profile and the control set; returns their details for the summary."""
        training_set = outcome.rows.take(pa.array(outcome.kept))
        write_training_set(folder / tables.TRAINING_SET, training_set, self.fields)
        found = profile(training_set, self.seed)
        write_json(folder / PROFILE, found.model_dump(mode="json"))
        if not self.config.control:
            return {"diversity": found.diversity}
        control = self._control(checks, outcome)
        write_training_set(folder / tables.CONTROL, outcome.rows.take(pa.array(control)), self.fields)
        return {"diversity": found.diversity, "control": len(control)}

    def _contamination(self, rows: pa.Table, searched: NDArray[np.int64]) -> Contaminated:
        """Rows that repeat an evaluation text; held-out documents that broke their contract count too."""
        holdout = read_documents(self.collected.folder / tables.HOLDOUT, ())
        holdout = holdout.filter(pc.is_valid(holdout["user_text"]))
        sets = [
            EvaluationTexts(HOLDOUT, holdout["document_id"].to_pylist(), holdout["user_text"], contexts(holdout)),
            *read_evaluation_sets(self.config.contamination),
        ]
        asked_in = contexts(rows).take(pa.array(searched))
        user, assistant = (rows[name].take(pa.array(searched)) for name in ("user_text", "assistant_text"))
        found = find_contamination(user, assistant, sets, self.config.contamination, asked_in)
        return replace(found, positions=searched[found.positions])

    def _duplicates(self, rows: pa.Table, left: NDArray[np.int64], context: StageContext) -> Duplicates:
        """The rows at these positions that repeat another one, by rising position in the whole table."""
        order = left[precedence(rows.select(["origin", "judgements"]).take(pa.array(left)))]
        texts, asked_in = rows["user_text"].take(pa.array(order)), contexts(rows).take(pa.array(order))
        found = find_duplicates(texts, self.config.near_duplicates, asked_in)
        if self.config.same_meaning is not None:
            work = context.work_folder("validate")
            work.mkdir(parents=True, exist_ok=True)
            found = add_same_meaning(texts, found, self.config.same_meaning, work, context.log("meaning"), asked_in)
        positions = order[found.position]
        rising = np.argsort(positions)
        return Duplicates(positions[rising], order[found.original][rising], found.kind[rising])

    def _control(self, checks: RowChecks, outcome: Outcome) -> NDArray[np.int64]:
        """As many random rows as the training set, unfiltered but trainable and without evaluation texts."""
        may_train = checks.is_trainable
        may_train[outcome.contaminated.positions] = False
        unsearched = np.flatnonzero(may_train & checks.is_quarantined)
        may_train[self._contamination(outcome.rows, unsearched).positions] = False
        number = len(outcome.kept)
        return np.sort(np.random.default_rng(self.seed).choice(np.flatnonzero(may_train), number, replace=False))

    def _labels_to_learn(self) -> set[str]:
        """Labels that the task names and that the evaluation asks for."""
        if not self.config.minimum_rows_per_label:
            return set()
        return read_answers(self.documents.folder / tables.HOLDOUT, self.replay) | set(self.context.labels)


def _config_key(config: ValidateConfig) -> dict[str, Any]:
    """The part of the recipe's section that determines the training set; files and models count by their digests."""
    plain = config.model_dump(mode="json", exclude=NOT_IN_KEY | {"contamination", "same_meaning"})
    meaning = config.same_meaning.model_dump(exclude={"model"}) if config.same_meaning else None
    leaks = config.contamination.model_dump(mode="json", exclude={"evaluation_sets"})
    sets = config.contamination.evaluation_sets.items()
    leaks["evaluation_sets"] = {name: evaluation.model_dump(exclude={"path"}) for name, evaluation in sets}
    return {**plain, "contamination": leaks, "same_meaning": meaning}


def _write_duplicates(path: Path, rows: pa.Table, found: Duplicates) -> None:
    names = ("row_id", "origin", "prompt", "document_id", "source")
    dropped = rows.select([*names, "user_text"]).take(pa.array(found.position))
    kept = rows.select(["row_id", "user_text"]).take(pa.array(found.original))
    columns = {name: pc.fill_null(dropped[name], "") for name in names}
    columns |= {"kind": pa.array(found.kind, pa.string()), "duplicate_of": pc.fill_null(kept["row_id"], "")}
    columns |= {"text": dropped["user_text"], "original": kept["user_text"]}
    schema = tables.schema(tables.DUPLICATE)
    pq.write_table(pa.table(columns).select(schema.names).cast(schema), path)
