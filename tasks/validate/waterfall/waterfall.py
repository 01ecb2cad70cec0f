"""The yield waterfall: for every prompt and document source, how many rows were asked for and what became of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.core.files import write_json
from tasks.validate.waterfall.yields import KEPT, WATERFALL, Group, Waterfall, losses_by_step

LOST_AT = {
    "render": "answered",
    "refused": "answered",
    "failed": "answered",
    "truncated": "parsed",
    "empty": "parsed",
    "encoding": "parsed",
    "unparseable": "parsed",
    "schema": "parsed",
    "control_token": "parsed",
    "missing": "parsed",
    "judge": "judged_good",
    "surplus": "wanted",
}
"""The step that a row of the generate stage's quarantine did not get through, by the first word of its rule."""
COLLECTED, COLLECTED_ROWS = "collected", "(collected)"
UNKNOWN = "(unknown)"

Positions = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Lost:
    """Rows that a step of the validate stage took.

    Attributes:
        positions: in the table of rows, each at most once.
        rules: what took each of them, in the same order: strings.
    """

    positions: Positions
    rules: pa.Array | pa.ChunkedArray


def find_waterfall(
    rows: pa.Table,
    quarantined: Lost,
    contaminated: Lost,
    duplicates: Lost,
    generated: Path | None,
    documents: Path,
) -> Waterfall:
    """What became of every row that was asked for.

    Args:
        rows: all rows that the validate stage read, with ``origin``, ``prompt`` and ``source``.
        quarantined: those that broke a contract, each with the first critical rule that it broke.
        contaminated: those that leak an evaluation text, each with the name of its set.
        duplicates: those that repeat another one, each with the kind.
        generated: the generate stage's ``quarantine.parquet``, or None where nothing is generated.
        documents: ``train.parquet`` of the documents that were generated from, for the source of each document.

    Raises:
        AssertionError: a row was lost twice, or to a rule that no step knows: a defect, not a fault of the data.
    """
    counted = _count_rows(rows, {"valid": quarantined, "uncontaminated": contaminated, "distinct": duplicates})
    if generated is not None:
        counted += _count_rejected(generated, documents)
    return Waterfall(tuple(_groups(counted)))


def write_waterfall(folder: Path, found: Waterfall) -> None:
    """Write ``waterfall.json`` and the picture ``report/waterfall.png`` into an artifact's folder."""
    from tasks.validate.waterfall.picture import draw_waterfall

    write_json(folder / WATERFALL, found.as_json())
    draw_waterfall(found, folder / "report" / "waterfall.png")


Key = tuple[str, str, str, str]
"""Prompt, source, the step that was not got through (or KEPT), rule."""


def _count_rows(rows: pa.Table, lost: Mapping[str, Lost]) -> Counter[Key]:
    """Rows that the validate stage read, counted."""
    fates: list[tuple[str, str]] = [(KEPT, "")]
    fate_of_row = np.zeros(rows.num_rows, dtype=np.int32)
    for step, taken in lost.items():
        encoded = pc.dictionary_encode(_one_array(taken.rules))
        if np.any(fate_of_row[taken.positions]) or len(np.unique(taken.positions)) < len(taken.positions):
            raise AssertionError(f"waterfall: a row is lost twice, the second time at the step {step!r}")
        fate_of_row[taken.positions] = encoded.indices.to_numpy(zero_copy_only=False) + len(fates)
        fates += [(step, str(rule)) for rule in encoded.dictionary.to_pylist()]
    is_collected = pc.equal(rows["origin"], COLLECTED)
    prompts = pc.if_else(is_collected, COLLECTED_ROWS, _named(rows["prompt"]))
    table = pa.table({"prompt": prompts, "source": _named(rows["source"]), "fate": fate_of_row})
    return Counter({(prompt, source, *fates[fate]): count for prompt, source, fate, count in _counted(table)})


def read_rejected(quarantine: Path, documents: Path) -> pa.Table:
    """Of every row that the generate stage did not hand on its ``prompt``, its document's ``source`` and the ``rule``.

    Args:
        quarantine, documents: see :func:`find_waterfall`.
    """
    rejected = pq.read_table(quarantine, columns=["prompt", "document_id", "rule"])
    known = pq.read_table(documents, columns=["document_id", "source"])
    ids, of_rejected = (table["document_id"].cast(pa.large_string()) for table in (known, rejected))
    at = pc.index_in(of_rejected, value_set=_one_array(ids))
    sources = _named(known["source"].take(at))
    rules = pc.list_element(pc.split_pattern(rejected["rule"], ":", max_splits=1), 0)
    return pa.table({"prompt": rejected["prompt"], "source": sources, "rule": rules})


def _count_rejected(quarantine: Path, documents: Path) -> Counter[Key]:
    """Rows that the generate stage did not hand on, counted."""
    table = read_rejected(quarantine, documents)
    return Counter({(prompt, source, _step_of(rule), rule): count for prompt, source, rule, count in _counted(table)})


def _step_of(rule: str) -> str:
    kind = rule.split(maxsplit=1)[0] if rule.strip() else rule
    if kind not in LOST_AT:
        raise AssertionError(f"waterfall: the generate stage has a rule {rule!r} that no step knows")
    return LOST_AT[kind]


def _counted(table: pa.Table) -> Iterable[tuple[Any, ...]]:
    """Each distinct row of a table, with how often it is there behind it."""
    found = table.group_by(table.column_names).aggregate([([], "count_all")])
    return zip(*(found[name].to_pylist() for name in (*table.column_names, "count_all")), strict=True)


def _named(names: pa.ChunkedArray) -> pa.ChunkedArray:
    """Names, those that are missing among them."""
    texts = pc.fill_null(names.cast(pa.large_string()), "")
    return pc.if_else(pc.equal(texts, ""), UNKNOWN, texts)


def _one_array(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values


def _groups(counted: Mapping[Key, int]) -> Iterable[Group]:
    """Collected rows first (a bracket comes before every letter), then by prompt and source."""
    groups: dict[tuple[str, str], list[tuple[str, str, int]]] = {}
    for (prompt, source, step, rule), count in counted.items():
        groups.setdefault((prompt, source), []).append((step, rule, count))
    for (prompt, source), fates in sorted(groups.items()):
        yield Group(prompt, source, sum(count for _, _, count in fates), losses_by_step(fates))
