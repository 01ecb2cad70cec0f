"""Check rows against contracts: generated rows against their own, then all rows against the training set's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.core.artifacts import REPORT_FOLDER
from tasks.validate.boundary import DATA_DOCS, warnings_of
from tasks.validate.checkpoint import RuleResult, as_frame, run_checkpoint
from tasks.validate.contracts.contract import Contract
from tasks.validate.quarantine import BUILT_IN, Breach, contract_breaches, conversation_breaches, quarantined
from tasks.validate.rows import GENERATED, contract_view
from tasks.validate.stops import check_results

ROWS, TRAINING_SET = "rows", "training_set"
"""The stage's contracts, as a recipe names them, and the folders of their Data Docs."""


@dataclass
class RowChecks:
    """Checks of rows against one contract after the other; a row that one quarantines is not checked by the next.

    Attributes:
        folder: of the artifact, for the Data Docs.
        breaches: rules and the rows that break them; the built-in rules come first.
        checkpoints: the results of each contract.
    """

    rows: pa.Table
    folder: Path
    breaches: list[Breach] = field(init=False)
    checkpoints: list[tuple[Contract, list[RuleResult]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.breaches = conversation_breaches(self.rows)

    @property
    def is_quarantined(self) -> NDArray[np.bool_]:
        """Which rows are quarantined."""
        return quarantined(self.breaches, self.rows.num_rows)

    @property
    def is_trainable(self) -> NDArray[np.bool_]:
        """Which rows have a conversation that can be trained on, whatever the contracts find."""
        return ~quarantined((breach for breach in self.breaches if breach.contract == BUILT_IN), self.rows.num_rows)

    @property
    def warnings(self) -> dict[str, str]:
        """See :func:`warnings_of`, for all contracts."""
        return {name: text for _, results in self.checkpoints for name, text in warnings_of(results).items()}

    def check_generated(self, contract: Contract) -> None:
        """Check the generated rows against their contract."""
        self._check(ROWS, contract, self._is_generated)

    def check_all(self, contract: Contract) -> None:
        """Check all rows that are left against the rules on rows of the training set's contract."""
        if contract.on_rows.rules:
            by_contracts = (breach for breach in self.breaches if breach.contract != BUILT_IN)
            self._check(TRAINING_SET, contract.on_rows, ~quarantined(by_contracts, self.rows.num_rows))

    def stop_if_broken(self, lost_before: Sequence[str]) -> None:
        """Raise ContractViolation if the table as a whole breaks a contract; see :func:`check_results`.

        ``lost_before``: lines on lost documents and unwritten rows; part of the message if no row was generated.
        """
        for contract, results in self.checkpoints:
            check_results(contract, results, () if self._is_generated.any() else lost_before)

    @property
    def _is_generated(self) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = pc.equal(self.rows["origin"], GENERATED).to_numpy()
        return found

    def _check(self, name: str, contract: Contract, is_checked: NDArray[np.bool_]) -> None:
        docs = self.folder / REPORT_FOLDER / DATA_DOCS / name
        results = run_checkpoint(contract, self._frame(contract, is_checked), docs)
        self.checkpoints.append((contract, results))
        positions = np.flatnonzero(is_checked)
        self.breaches += [
            replace(breach, rows=positions[breach.rows]) for breach in contract_breaches(contract, results)
        ]

    def _frame(self, contract: Contract, is_checked: NDArray[np.bool_]) -> pd.DataFrame:
        """The columns that a contract reads; the copy in Arrow is released."""
        view = contract_view(self.rows, contract.reads or ("row_id",))
        if not is_checked.all():
            view = view.filter(pa.array(is_checked))
        frame = as_frame(view, view.column_names)
        del view
        pa.default_memory_pool().release_unused()
        return frame
