"""The third boundary: check the training set as a whole, and its drift from earlier published training sets."""

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
from tasks.validate.boundary import DATA_DOCS, LIBRARIES, context_key, contract_digests, kept_if_it_stops, warnings_of
from tasks.validate.checkpoint import RuleResult, run_checkpoint
from tasks.validate.config import ValidateConfig
from tasks.validate.contracts.columns import contract_columns
from tasks.validate.contracts.contract import Contract, read_contract
from tasks.validate.contracts.odcs import read_file
from tasks.validate.contracts.rule import ContractContext
from tasks.validate.drift.drift import DRIFT_COLUMNS
from tasks.validate.drift.drift_report import Drift, PublishedProfile
from tasks.validate.drift.profile import PROFILE, read_profile
from tasks.validate.rows import read_training_set
from tasks.validate.stops import check_results

VERSION = 2
TRAINING_SET = "training_set"
DRIFT = "drift"
"""The one-row table of measures in a training set's contract."""


@dataclass(frozen=True)
class Publication:
    """A published training set: the version of the model that was trained on it, and the file of its profile."""

    version: str
    profile: str


@dataclass(frozen=True)
class Publications:
    """What a training set is compared with: the last published one and an older one, if any."""

    last: Publication | None = None
    baseline: Publication | None = None


def choose_publications(before: Iterable[tuple[str, Path]], window: int) -> Publications:
    """The newest earlier publication, and the one ``window`` publications back or else the oldest.

    ``before`` has version and profile of each, newest first; those without a readable profile are skipped.
    """
    known = [Publication(version, str(path)) for version, path in islice(before, window) if read_profile(path)]
    return Publications(known[0], known[-1]) if known else Publications()


@dataclass(frozen=True)
class CheckTrainingSetJob:
    """The inputs of the check; the contract may name ``fields`` of the recipe and read its ``context``."""

    config: ValidateConfig
    validated: ArtifactRef
    publications: Publications
    fields: tuple[str, ...]
    context: ContractContext

    def key(self) -> StageKey:
        """What determines the result."""
        before = asdict(self.publications)
        versions = {role: found and found["version"] for role, found in before.items()}
        profiles = {f"profile: {role}": file_digest(Path(found["profile"])) for role, found in before.items() if found}
        return StageKey(
            stage="check_training_set",
            version=VERSION,
            config={"fields": self.fields, "context": context_key(self.context), "compared with versions": versions},
            inputs=[self.validated],
            files={**contract_digests({TRAINING_SET: self.config.contracts.training_set}), **profiles},
            libraries=LIBRARIES,
        )

    def fill(self, folder: Path, context: StageContext) -> Summary:
        """Write the results of the rules and the drift.

        Raises ContractViolation if the set breaks its contract or its drift limits; the results are then in the run's
        logs.
        """
        with kept_if_it_stops(folder, context, "check_training_set"):
            path, docs = Path(self.config.contracts.training_set), folder / REPORT_FOLDER / DATA_DOCS
            contract = read_contract(path, contract_columns(self.fields), context=self.context).on_table
            named = [name for name in self.fields if name in contract.reads]
            rows = read_training_set(self.validated.folder / tables.TRAINING_SET, named)
            results = run_checkpoint(contract, rows, docs / TRAINING_SET)
            limits, drift = read_drift_contract(path), self._drift()
            limited = run_checkpoint(limits, drift.row, docs / DRIFT) if limits else []
            warnings = warnings_of([*results, *limited])
            found = TrainingSetDetails(
                warnings=warnings, compared_with=drift.compared_with, drift=drift.measures(limited)
            )
            write_json(folder / "drift.json", found.model_dump(include={"compared_with", "drift"}))
            stop_if_broken(contract, results, drift, limited)
            return Summary(rows.num_rows, rows.num_rows, details=found)

    def _drift(self) -> Drift:
        now = read_profile(self.validated.folder / PROFILE)
        if now is None:
            raise AssertionError(f"validate wrote a profile that cannot be read: {self.validated.folder / PROFILE}")
        return Drift(now, _published_profile(self.publications.last), _published_profile(self.publications.baseline))


def read_drift_contract(path: Path) -> Contract | None:
    """The limits on drift in a training set's contract, or None. Raises as :func:`read_contract`."""
    file, _ = read_file(path)
    has_limits = file is not None and any(table.name == DRIFT for table in file.document.schema_ or [])
    return read_contract(path, DRIFT_COLUMNS, table=DRIFT) if has_limits else None


def _published_profile(publication: Publication | None) -> PublishedProfile | None:
    profile = read_profile(Path(publication.profile)) if publication else None
    return PublishedProfile(publication.version, profile) if publication and profile else None


def stop_if_broken(
    contract: Contract, results: Sequence[RuleResult], drift: Drift, limited: Sequence[RuleResult]
) -> None:
    """Raise ContractViolation if the training set breaks its contract or its drift limits.

    The error has every broken critical rule; for a measure its value, its limit and the version compared with.
    """
    broken = [
        result for result in limited if result.exception or (not result.success and result.rule.severity == "critical")
    ]
    if not broken:
        check_results(contract, results)
        return
    first, *others = drift.describe(broken)
    lines = [f"The training set has moved too far from what was published before: {first}", *others]
    try:
        check_results(contract, results)
    except ContractViolation as error:
        lines.append(error.what)
    raise ContractViolation(
        "\n  and ".join(lines),
        where=broken[0].rule.where,
        remedy="look at the rows and the Data Docs of drift, and fix the cause; if the change is intended, raise the"
        " limit, or lower validate.drift_window so that the baseline is newer than the change",
    )
