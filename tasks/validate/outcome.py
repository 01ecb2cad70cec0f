"""The outcome of the validate stage for every row, counted by prompt, by document source and by label."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.core.artifacts import Summary
from tasks.core.details import ValidateDetails
from tasks.validate.rows import answers_of
from tasks.validate.stops import counts_of
from tasks.validate.waterfall.waterfall import Lost, row_losses
from tasks.validate.waterfall.yields import KEPT

OUTCOMES = {KEPT: "accepted", "valid": "quarantined", "uncontaminated": "contaminated", "distinct": "duplicates"}
"""The counts of a summary, by the step that lost a row."""
MOST_NAMES = 100
"""More distinct answers are free text, not labels, and are not counted; of sources, the most frequent are."""


@dataclass(frozen=True)
class Outcome:
    """The rows that came in, and those that were lost, each at most once; ``replay``: sources whose answers are not
    labels."""

    rows: pa.Table
    quarantined: Lost
    contaminated: Lost
    duplicates: Lost
    replay: tuple[str, ...] = ()

    @cached_property
    def losses(self) -> pa.Table:
        """:func:`row_losses` of all rows, and the ``label`` of each."""
        lost = {"valid": self.quarantined, "uncontaminated": self.contaminated, "distinct": self.duplicates}
        return row_losses(self.rows, lost).append_column("label", answers_of(self.rows, self.replay))

    @property
    def kept(self) -> NDArray[np.int64]:
        """Positions of the rows that may train, ascending."""
        return np.flatnonzero(pc.equal(self.losses["step"], KEPT).to_numpy())

    def summary(self, details: Mapping[str, Any]) -> Summary:
        """The counts of the stage: in total, by prompt, by source, and of kept rows by label; with more details."""
        steps, labels = counts_of(self.losses["step"]), counts_of(self.losses["label"].take(pa.array(self.kept)))
        counted: dict[str, Any] = {
            "by_prompt": self._counted("prompt"),
            "by_source": self._counted("source"),
            "labels": labels if len(labels) <= MOST_NAMES else {},
            "duplicate_kinds": counts_of(self.duplicates.rules),
            "contamination": counts_of(self.contaminated.rules),
        }
        by_outcome: dict[str, Any] = {outcome: steps.get(step, 0) for step, outcome in OUTCOMES.items()}
        return Summary(rows_in=self.rows.num_rows, **by_outcome, details=ValidateDetails(**counted, **details))

    def _counted(self, by: str) -> dict[str, dict[str, int]]:
        """The outcomes of the most frequent prompts or sources, in alphabetical order."""
        counted = self.losses.group_by([by, "step"]).aggregate([([], "count_all")])
        groups: dict[str, dict[str, int]] = {}
        for name, step, count in zip(*(counted[key].to_pylist() for key in (by, "step", "count_all")), strict=True):
            group = groups.setdefault(name, dict.fromkeys(("rows_in", *OUTCOMES.values()), 0))
            group["rows_in"] += count
            group[OUTCOMES[step]] += count
        most = sorted(groups.items(), key=lambda item: (-item[1]["rows_in"], item[0]))[:MOST_NAMES]
        return dict(sorted(most))
