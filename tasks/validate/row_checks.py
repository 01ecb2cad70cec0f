"""What the contracts say of rows: their own of generated ones, then the training set's of all that are left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.core.artifacts import REPORT_FOLDER
from tasks.validate.boundary import DATA_DOCS, reported_only
from tasks.validate.checkpoint import RuleResult, as_frame, run_checkpoint
from tasks.validate.contracts.contract import Contract
from tasks.validate.quarantine import BUILT_IN, Breach, at, contract_breaches, conversation_breaches, quarantined
from tasks.validate.rows import GENERATED, contract_view
from tasks.validate.stops import check_findings

ROWS, TRAINING_SET = "rows", "training_set"
"""The two contracts of the stage, as a recipe names them, and their Data Docs' folders."""


@dataclass
class RowChecks:
    """Contracts held against rows, one after the other; a row that one quarantined is not judged by the next.

    Attributes:
        rows: all of them.
        folder: the artifact's, for the Data Docs.
        breaches: the rules that rows break, those that no contract states first.
        checkpoints: what each contract found.
    """

    rows: pa.Table
    folder: Path
    breaches: list[Breach] = field(init=False)
    checkpoints: list[tuple[Contract, list[RuleResult]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.breaches = conversation_breaches(self.rows)

    @property
    def broken(self) -> NDArray[np.bool_]:
        """Which rows are quarantined."""
        return quarantined(self.breaches, self.rows.num_rows)

    @property
    def sound(self) -> NDArray[np.bool_]:
        """Which rows have a conversation that can be trained on, whatever the contracts say."""
        return ~quarantined((one for one in self.breaches if one.contract == BUILT_IN), self.rows.num_rows)

    @property
    def warnings(self) -> dict[str, str]:
        """What rules found that cost nothing."""
        return {name: said for _, findings in self.checkpoints for name, said in reported_only(findings).items()}

    def hold_generated(self, contract: Contract) -> None:
        """Hold the generated rows against their contract."""
        self._hold(ROWS, contract, self._is_generated)

    def hold_all(self, contract: Contract) -> None:
        """Hold what is left of all rows against those rules of the training set's contract that judge rows."""
        if contract.on_rows.rules:
            by_contracts = (one for one in self.breaches if one.contract != BUILT_IN)
            self._hold(TRAINING_SET, contract.on_rows, ~quarantined(by_contracts, self.rows.num_rows))

    def stop_if_broken(self, lost_before: Sequence[str]) -> None:
        """Stop where the table as a whole breaks a contract.

        Args:
            lost_before: lines on documents that gave no row, and on rows that were asked for and not written; told
                where none was.

        Raises:
            ContractViolation: see :func:`check_findings`.
        """
        for contract, findings in self.checkpoints:
            check_findings(contract, findings, () if self._is_generated.any() else lost_before)

    @property
    def _is_generated(self) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = pc.equal(self.rows["origin"], GENERATED).to_numpy()
        return found

    def _hold(self, name: str, contract: Contract, is_judged: NDArray[np.bool_]) -> None:
        findings = run_checkpoint(
            contract, self._judged(contract, is_judged), self.folder / REPORT_FOLDER / DATA_DOCS / name
        )
        self.checkpoints.append((contract, findings))
        self.breaches += at(np.flatnonzero(is_judged), contract_breaches(contract, findings))

    def _judged(self, contract: Contract, is_judged: NDArray[np.bool_]) -> pd.DataFrame:
        """What a contract sees of the rows that it judges; no copy of them in Arrow is held beside it."""
        seen = contract_view(self.rows, contract.reads or ("row_id",))
        if not is_judged.all():
            seen = seen.filter(pa.array(is_judged))
        frame = as_frame(seen, seen.column_names)
        del seen
        pa.default_memory_pool().release_unused()
        return frame
