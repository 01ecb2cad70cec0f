"""Some of the rows that a run set aside, drawn at random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from retune.quarantine.details import LostRow, read_details
from retune.quarantine.lost_rows import FILES, read_lost_rows, shown_rule
from retune.quarantine.run_files import RunFiles
from tasks.core.errors import RecipeError
from tasks.core.suggestions import did_you_mean


@dataclass(frozen=True)
class Sample:
    """Rows drawn at random.

    Attributes:
        run_id: the run.
        rows: those drawn, in the order of the stages and of their files.
        of: how many there are to draw from.
    """

    run_id: str
    rows: tuple[LostRow, ...]
    of: int

    def as_json(self) -> dict[str, Any]:
        """JSON-like."""
        return {"run_id": self.run_id, "of": self.of, "rows": [row.as_json() for row in self.rows]}


def sample_lost_rows(
    files: RunFiles,
    *,
    stage: str | None = None,
    rule: str | None = None,
    prompt: str | None = None,
    rows: int = 5,
    seed: int = 0,
) -> Sample:
    """Draw from the rows that a run set aside; the same seed draws the same rows.

    Args:
        files: the run's.
        stage, rule, prompt: only rows of these; a row that broke several rules is one of each. ``near`` as well as
            ``near (duplicate)``, as it is shown.
        rows: at most so many.
        seed: of the draw.

    Raises:
        RecipeError: there is no such row; with what there is.
    """
    lost = read_lost_rows(files)
    if lost.num_rows == 0:
        raise RecipeError(f"Run {files.record.run_id} set no row aside", where=files.record.folder)
    for name, wanted in (("stage", stage), ("prompt", prompt), ("rule", rule)):
        if wanted is not None:
            chosen = _with_rule(lost, wanted) if name == "rule" else lost.filter(pc.equal(lost[name], wanted))
            if chosen.num_rows == 0:
                raise _none(files, name, wanted, lost)
            lost = chosen
    drawn = np.random.default_rng(seed).choice(lost.num_rows, min(rows, lost.num_rows), replace=False)
    found = read_details(files, lost.take(pa.array(np.sort(drawn))))
    return Sample(files.record.run_id, tuple(found), lost.num_rows)


def _with_rule(lost: pa.Table, rule: str) -> pa.Table:
    """The rows that a rule took: by its name, or as it is shown with the outcome behind it."""
    rules = lost["rules"].combine_chunks()
    names, owners = pc.list_flatten(rules), pc.list_parent_indices(rules)
    outcomes = lost["outcome"].take(owners)
    is_it = pc.equal(names, rule)
    for outcome in FILES:
        name = rule.removesuffix(shown_rule("", outcome))
        is_it = pc.or_(is_it, pc.and_(pc.equal(outcomes, outcome), pc.equal(names, name)))
    return lost.take(pc.unique(owners.filter(is_it)))


def _none(files: RunFiles, name: str, wanted: str, lost: pa.Table) -> RecipeError:
    """Nothing of what was asked for: what there is instead, among the rows that are left by then."""
    values = pc.list_flatten(lost["rules"].combine_chunks()) if name == "rule" else lost[name]
    there = sorted(pc.unique(values).to_pylist())
    return RecipeError(
        f"Run {files.record.run_id} set no row aside with the {name} {wanted!r}",
        where=files.record.folder,
        remedy=f"{did_you_mean(wanted, there)}there are: {', '.join(there)}",
    )
