"""The third boundary: what is left to train on, as a whole, and how far it has moved from what was published before."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

from tasks.core import tables
from tasks.core.artifacts import REPORT_FOLDER, ArtifactRef, StageKey, Summary
from tasks.core.details import TrainingSetDetails
from tasks.core.errors import ContractViolation
from tasks.core.files import file_digest, write_json
from tasks.core.stage import StageContext
from tasks.validate.boundary import (
    DATA_DOCS,
    LIBRARIES,
    contract_digests,
    kept_if_it_stops,
    reported_only,
    shaping,
)
from tasks.validate.checkpoint import RuleResult, run_checkpoint
from tasks.validate.config import ValidateConfig
from tasks.validate.contracts.columns import contract_columns
from tasks.validate.contracts.contract import Contract, read_contract
from tasks.validate.contracts.odcs import read_file
from tasks.validate.contracts.rule import ContractContext
from tasks.validate.drift.drift import DRIFT_COLUMNS
from tasks.validate.drift.drift_report import Compared, Drift
from tasks.validate.drift.profile import PROFILE, read_profile
from tasks.validate.rows import read_training_set
from tasks.validate.stops import check_findings

VERSION = 1
TRAINING_SET = "training_set"
DRIFT = "drift"
"""Of a training set's contract the table of one row with the measures; and the file of what was found."""


@dataclass(frozen=True)
class Publication:
    """A training set that was published.

    Attributes:
        version: of the registered model that learned from it.
        profile: the file that says what it looked like.
    """

    version: str
    profile: str


@dataclass(frozen=True)
class Publications:
    """What a training set is compared with: the last published one, and one further back; None where there is none."""

    last: Publication | None = None
    baseline: Publication | None = None


def choose_publications(before: Iterable[tuple[str, Path]], window: int) -> Publications:
    """The newest of earlier publications, and the one ``window`` back or the oldest there is.

    Args:
        before: version and profile of each, newest first; one whose profile is gone, or of a form that this version of
            Retune does not know, is passed over.
        window: how many publications to look back.
    """
    known = [Publication(version, str(path)) for version, path in islice(before, window) if read_profile(path)]
    return Publications(known[0], known[-1]) if known else Publications()


@dataclass(frozen=True)
class CheckTrainingSetJob:
    """Everything the check reads.

    Attributes:
        config: the recipe's section.
        validated: the training set and its profile.
        publications: what it is compared with.
        fields: the fields of a row, as the contract may name them.
        context: what rules take from the recipe.
    """

    config: ValidateConfig
    validated: ArtifactRef
    publications: Publications
    fields: tuple[str, ...]
    context: ContractContext

    def key(self) -> StageKey:
        """What determines the verdict."""
        before = asdict(self.publications)
        versions = {which: one and one["version"] for which, one in before.items()}
        profiles = {f"profile: {which}": file_digest(Path(one["profile"])) for which, one in before.items() if one}
        return StageKey(
            stage="check_training_set",
            version=VERSION,
            config={"fields": self.fields, "context": shaping(self.context), "compared with versions": versions},
            inputs=[self.validated],
            files={**contract_digests({TRAINING_SET: self.config.contracts.training_set}), **profiles},
            libraries=LIBRARIES,
        )

    def fill(self, folder: Path, context: StageContext) -> Summary:
        """Write what the rules and the drift came to.

        Raises:
            ContractViolation: the training set breaks its contract, or has moved further than the contract allows.
                What was found is then kept beside the run's logs.
        """
        with kept_if_it_stops(folder, context, "check_training_set"):
            return self._fill(folder)

    def _fill(self, folder: Path) -> Summary:
        path, docs = Path(self.config.contracts.training_set), folder / REPORT_FOLDER / DATA_DOCS
        contract = read_contract(path, contract_columns(self.fields), context=self.context).on_table
        named = [name for name in self.fields if name in contract.reads]
        rows = read_training_set(self.validated.folder / tables.TRAINING_SET, named)
        findings = run_checkpoint(contract, rows, docs / TRAINING_SET)
        limits, drift = read_drift_contract(path), self._drift()
        limited = run_checkpoint(limits, drift.row, docs / DRIFT) if limits else []
        warned = reported_only([*findings, *limited])
        found = TrainingSetDetails(warnings=warned, compared_with=drift.compared_with, drift=drift.measures(limited))
        write_json(folder / "drift.json", found.model_dump(include={"compared_with", "drift"}))
        stop_if_broken(contract, findings, drift, limited)
        return Summary(rows.num_rows, rows.num_rows, details=found)

    def _drift(self) -> Drift:
        now = read_profile(self.validated.folder / PROFILE)
        if now is None:
            raise AssertionError(f"validate wrote no profile that can be read: {self.validated.folder / PROFILE}")
        return Drift(now, _compared(self.publications.last), _compared(self.publications.baseline))


def read_drift_contract(path: Path) -> Contract | None:
    """The limits on drift of a training set's contract; None where it sets none.

    Raises:
        ContractError: as :func:`read_contract`.
    """
    file, _ = read_file(path)
    has_limits = file is not None and any(table.name == DRIFT for table in file.document.schema_ or [])
    return read_contract(path, DRIFT_COLUMNS, table=DRIFT) if has_limits else None


def _compared(publication: Publication | None) -> Compared | None:
    profile = read_profile(Path(publication.profile)) if publication else None
    return Compared(publication.version, profile) if publication and profile else None


def stop_if_broken(
    contract: Contract, findings: Sequence[RuleResult], drift: Drift, limited: Sequence[RuleResult]
) -> None:
    """Stop where the training set breaks its contract, or has moved further than its limits allow.

    Raises:
        ContractViolation: with every critical rule that does not hold; of a measure its value, its limit and with what
            it was compared.
    """
    broken = [one for one in limited if one.exception or (not one.success and one.rule.severity == "critical")]
    if not broken:
        check_findings(contract, findings)
        return
    first, *others = drift.in_words(broken)
    lines = [f"The training set has moved too far from what was published before: {first}", *others]
    try:
        check_findings(contract, findings)
    except ContractViolation as error:
        lines.append(error.what)
    raise ContractViolation(
        "\n  and ".join(lines),
        where=broken[0].rule.where,
        remedy="look at the rows and at the Data Docs of drift, and mend what drifts; where the change is meant, raise"
        " the limit, or lower validate.drift_window so that the baseline lies behind the change",
    )
