"""The yield waterfall: for every prompt and document source, how many rows were asked for and where they were lost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.core.files import write_json
from tasks.validate.json_texts import TEXT
from tasks.validate.rows import named, prompts_of
from tasks.validate.waterfall.yields import KEPT, WATERFALL, Group, Waterfall, losses_by_step

LOST_AT = {
    "render": "answered",
    "refused": "answered",
    "failed": "answered",
    "truncated": "parsed",
    "empty": "parsed",
    "encoding": "parsed",
    "reasoning": "parsed",
    "latex": "parsed",
    "unparseable": "parsed",
    "schema": "parsed",
    "control_token": "parsed",
    "missing": "parsed",
    "judge": "judged_good",
    "surplus": "wanted",
}
"""The step at which the generate stage lost a row, by the first word of its rule."""
KEY = ("prompt", "source", "step", "rule")


@dataclass(frozen=True)
class Lost:
    """Rows that a step of the validate stage removed: positions, each at most once, and the rule of each."""

    positions: npt.NDArray[np.int64]
    rules: pa.Array | pa.ChunkedArray


def row_losses(rows: pa.Table, lost: Mapping[str, Lost]) -> pa.Table:
    """For each row its ``prompt``, its document's ``source``, the ``step`` that lost it (or KEPT), and the ``rule``.

    ``rows`` has the columns ``origin``, ``prompt`` and ``source``. AssertionError if a row was lost twice.
    """
    reasons, reason_of_row = [(KEPT, "")], np.zeros(rows.num_rows, dtype=np.int32)
    for step, removed in lost.items():
        rules = _one_array(removed.rules).dictionary_encode()
        if np.any(reason_of_row[removed.positions]) or len(np.unique(removed.positions)) < len(removed.positions):
            raise AssertionError(f"waterfall: a row is lost twice, the second time at the step {step!r}")
        reason_of_row[removed.positions] = rules.indices.to_numpy(zero_copy_only=False) + len(reasons)
        reasons += [(step, str(rule)) for rule in rules.dictionary.to_pylist()]
    steps, names = (pa.array(values, TEXT).take(pa.array(reason_of_row)) for values in zip(*reasons, strict=True))
    return pa.table([prompts_of(rows), named(rows["source"]), steps, names], names=KEY)


def rejected_losses(quarantine: Path | None, documents: Path) -> pa.Table:
    """The same for each row that the generate stage rejected; none without a ``quarantine``.

    ``documents`` is the table that rows were generated from, for their sources. AssertionError for an unknown rule.
    """
    if quarantine is None:
        return pa.table({name: pa.array([], TEXT) for name in KEY})
    rejected = pq.read_table(quarantine, columns=["prompt", "document_id", "rule"])
    known = pq.read_table(documents, columns=["document_id", "source"])
    ids, of_rejected = (table["document_id"].cast(TEXT) for table in (known, rejected))
    sources = named(known["source"].take(pc.index_in(of_rejected, value_set=_one_array(ids))))
    rules = _one_array(pc.list_element(pc.split_pattern(rejected["rule"], ":", max_splits=1), 0))
    encoded = rules.dictionary_encode()
    steps = pa.array(map(_step_of, encoded.dictionary.to_pylist()), TEXT).take(encoded.indices)
    return pa.table([rejected["prompt"].cast(TEXT), sources, steps, rules.cast(TEXT)], names=KEY)


def _step_of(rule: str) -> str:
    kind = rule.split(maxsplit=1)[0] if rule.strip() else rule
    if kind not in LOST_AT:
        raise AssertionError(f"waterfall: the generate stage has a rule {rule!r} that no step knows")
    return LOST_AT[kind]


def count_losses(losses: Iterable[pa.Table]) -> Waterfall:
    """The waterfall of rows with the columns :data:`KEY`: collected rows first, then by prompt and source."""
    groups: dict[tuple[str, str], list[tuple[str, str, int]]] = {}
    for table in losses:
        counted = table.group_by(KEY).aggregate([([], "count_all")])
        columns = (counted[name].to_pylist() for name in (*KEY, "count_all"))
        for prompt, source, step, rule, count in zip(*columns, strict=True):
            groups.setdefault((prompt, source), []).append((step, rule, count))
    return Waterfall(
        tuple(
            Group(prompt, source, sum(count for _, _, count in fates), losses_by_step(fates))
            for (prompt, source), fates in sorted(groups.items())  # a bracket precedes every letter
        )
    )


def write_waterfall(folder: Path, waterfall: Waterfall) -> None:
    """Write ``waterfall.json`` and the picture ``report/waterfall.png`` into an artifact's folder."""
    from tasks.validate.waterfall.picture import draw_waterfall

    write_json(folder / WATERFALL, waterfall.as_json())
    draw_waterfall(waterfall, folder / "report" / "waterfall.png")


def _one_array(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
