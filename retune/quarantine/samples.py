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
    """Rows drawn at random from ``of`` rows, in the order of the stages and of their files.

    ``shown_by``: the command that traces a row of this run.
    """

    run_id: str
    rows: tuple[LostRow, ...]
    of: int
    shown_by: str

    def as_json(self) -> dict[str, Any]:
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

    ``stage``, ``rule``, ``prompt``: only rows of these; a row that broke several rules belongs to each. ``near`` as
    well as ``near (duplicate)``, as it is shown. Raises RecipeError: there is no such row; with the values that there
    are.
    """
    lost = read_lost_rows(files)
    if lost.num_rows == 0:
        raise RecipeError(f"Run {files.record.run_id} set no row aside", where=files.record.folder)
    for name, wanted in (("stage", stage), ("prompt", prompt), ("rule", rule)):
        if wanted is not None:
            chosen = _with_rule(lost, wanted) if name == "rule" else lost.filter(pc.equal(lost[name], wanted))
            if chosen.num_rows == 0:
                raise _no_such_row(files, name, wanted, lost)
            lost = chosen
    drawn = np.random.default_rng(seed).choice(lost.num_rows, min(rows, lost.num_rows), replace=False)
    found = read_details(files, lost.take(pa.array(np.sort(drawn))))
    shown_by = files.record.command("quarantine", "show", "ROW_ID")
    return Sample(files.record.run_id, tuple(found), lost.num_rows, shown_by)


def _with_rule(lost: pa.Table, rule: str) -> pa.Table:
    rules = lost["rules"].combine_chunks()
    names, owners = pc.list_flatten(rules), pc.list_parent_indices(rules)
    outcomes = lost["outcome"].take(owners)
    matches = pc.equal(names, rule)
    for outcome in FILES:
        name = rule.removesuffix(shown_rule("", outcome))
        matches = pc.or_(matches, pc.and_(pc.equal(outcomes, outcome), pc.equal(names, name)))
    return lost.take(pc.unique(owners.filter(matches)))


def _no_such_row(files: RunFiles, name: str, wanted: str, lost: pa.Table) -> RecipeError:
    values = pc.list_flatten(lost["rules"].combine_chunks()) if name == "rule" else lost[name]
    known = sorted(pc.unique(values).to_pylist())
    return RecipeError(
        f"Run {files.record.run_id} set no row aside with the {name} {wanted!r}",
        where=files.record.folder,
        remedy=f"{did_you_mean(wanted, known)}there are: {', '.join(known)}",
    )
