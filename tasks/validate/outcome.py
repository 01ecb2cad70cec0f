"""What became of every row: each is kept or lost once, and is counted by prompt, by document source and by label."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.core.artifacts import Summary
from tasks.core.details import ValidateDetails
from tasks.validate.json_texts import TEXT
from tasks.validate.rows import UNKNOWN, answers_of, prompts_of
from tasks.validate.stops import KEPT, counts_of
from tasks.validate.waterfall.waterfall import Lost

ACCEPTED, QUARANTINED, CONTAMINATED, DUPLICATES = "accepted", "quarantined", "contaminated", "duplicates"
OUTCOMES = (ACCEPTED, QUARANTINED, CONTAMINATED, DUPLICATES)
MOST_NAMES = 100
"""More distinct answers than this are free text, not labels, and are not counted one by one; so with sources."""


@dataclass(frozen=True)
class Outcome:
    """What a run of the stage made of its rows.

    Attributes:
        rows: all that came in.
        quarantined, contaminated, duplicates: those that were lost, and to what; no row is in two of them.
        replay: sources whose answers are no labels.
    """

    rows: pa.Table
    quarantined: Lost
    contaminated: Lost
    duplicates: Lost
    replay: tuple[str, ...] = ()

    @property
    def kept(self) -> NDArray[np.int64]:
        """Positions of the rows that may train, ascending."""
        return np.flatnonzero(self._outcomes() == 0)

    def fates(self) -> pa.Table:
        """Of every row its ``prompt``, its document's ``source``, its ``label`` and its ``fate``: what took it."""
        names, codes = [KEPT], np.zeros(self.rows.num_rows, np.int64)
        for lost, naming in (
            (self.quarantined, "{}"),
            (self.contaminated, "contamination ({})"),
            (self.duplicates, "{} duplicate"),
        ):
            rules = pc.dictionary_encode(lost.rules)
            codes[lost.positions] = rules.indices.to_numpy(zero_copy_only=False) + len(names)
            names += [naming.format(rule) for rule in rules.dictionary.to_pylist()]
        fate = pa.array(names, TEXT).take(pa.array(codes))
        return pa.table({**self._groups(), "label": self._labels(), "fate": fate})

    def summary(self, details: Mapping[str, Any]) -> Summary:
        """The counts of the stage, in all, by prompt and by source, those of the kept rows by label, and more details.

        Args:
            details: what else to tell.
        """
        labels = counts_of(self._labels().take(pa.array(self.kept)))
        totals = np.bincount(self._outcomes(), minlength=len(OUTCOMES)).tolist()
        counted: dict[str, Any] = {
            **{f"by_{name}": self._counted(column) for name, column in self._groups().items()},
            "labels": labels if len(labels) <= MOST_NAMES else {},
            "duplicate_kinds": counts_of(self.duplicates.rules),
            "contamination": counts_of(self.contaminated.rules),
        }
        return Summary(
            rows_in=self.rows.num_rows,
            **dict(zip(OUTCOMES, totals, strict=True)),
            details=ValidateDetails(**counted, **details),
        )

    def _labels(self) -> pa.ChunkedArray:
        """What the assistant says; null where a row is of a replay source."""
        return answers_of(self.rows, self.replay)

    def _groups(self) -> dict[str, pa.ChunkedArray]:
        source = pc.fill_null(self.rows["source"], "")
        return {"prompt": prompts_of(self.rows), "source": pc.if_else(pc.equal(source, ""), UNKNOWN, source)}

    def _outcomes(self) -> NDArray[np.int64]:
        """Of each row the number of its outcome in ``OUTCOMES``."""
        codes = np.zeros(self.rows.num_rows, np.int64)
        for number, lost in enumerate((self.quarantined, self.contaminated, self.duplicates), start=1):
            codes[lost.positions] = number
        return codes

    def _counted(self, names: pa.ChunkedArray) -> dict[str, dict[str, int]]:
        """The outcomes by the name of something, in the order of the alphabet; the most frequent names only."""
        encoded = names.combine_chunks().dictionary_encode()
        groups = encoded.indices.to_numpy(zero_copy_only=False)
        number = len(encoded.dictionary)
        counts = np.bincount(groups * len(OUTCOMES) + self._outcomes(), minlength=number * len(OUTCOMES))
        counts = counts.reshape(number, len(OUTCOMES))
        most = np.argsort(-counts.sum(axis=1), kind="stable")[:MOST_NAMES]
        found = {
            encoded.dictionary[int(one)].as_py(): {
                "rows_in": int(counts[one].sum()),
                **dict(zip(OUTCOMES, counts[one].tolist(), strict=True)),
            }
            for one in most
        }
        return dict(sorted(found.items()))
