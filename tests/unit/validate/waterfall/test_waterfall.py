"""The waterfall counts every row that was asked for once, at the step that it did not get through."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from matplotlib.image import imread

from tasks.core import tables
from tasks.core.home import PROJECT_ROOT
from tasks.validate.waterfall.waterfall import LOST_AT, Lost, count_losses, rejected_losses, row_losses, write_waterfall
from tasks.validate.waterfall.yields import STEPS, Group, Waterfall, read_waterfall

NOBODY = Lost(np.array([], dtype=np.int64), pa.array([], pa.string()))
WRITES_RULES = ("generate/parse.py", "generate/writing.py", "generate/blocks.py", "generate/engine.py",
                "generate/dispatch.py", "core/vllm/client.py")  # fmt: skip
Rejected = tuple[str, str | None, str]
"""Prompt, document and rule of a row in the generate stage's quarantine."""


def rows_of(*rows: tuple[str, str | None, str | None]) -> pa.Table:
    """Rows of (origin, prompt, source)."""
    names = ("origin", "prompt", "source")
    columns = zip(*rows, strict=True) if rows else ([], [], [])
    return pa.table({name: pa.array(column, pa.string()) for name, column in zip(names, columns, strict=True)})


def lost(**rules: Sequence[int]) -> Lost:
    """Positions by rule, underscores standing for blanks."""
    pairs = [(position, rule.replace("_", " ")) for rule, positions in rules.items() for position in positions]
    return Lost(np.array([at for at, _ in pairs], dtype=np.int64), pa.array([rule for _, rule in pairs], pa.string()))


def artifacts(folder: Path, rejected: Sequence[Rejected], **sources: str | None) -> tuple[Path, Path]:
    """The generate stage's quarantine and the documents with their sources."""
    table = pa.Table.from_pylist([dict(zip(("prompt", "document_id", "rule"), row, strict=True)) for row in rejected],
                                 schema=tables.schema(tables.QUARANTINED["generate"]))  # fmt: skip
    pq.write_table(table, folder / "quarantine.parquet")
    documents = pa.table(
        {"document_id": pa.array(sources, pa.string()), "source": pa.array(sources.values(), pa.string())}
    )
    pq.write_table(documents, folder / "train.parquet")
    return folder / "quarantine.parquet", folder / "train.parquet"


def find_waterfall(
    rows: pa.Table, quarantined: Lost, contaminated: Lost, duplicates: Lost, generated: Path | None, documents: Path
) -> Waterfall:
    lost = {"valid": quarantined, "uncontaminated": contaminated, "distinct": duplicates}
    return count_losses([row_losses(rows, lost), rejected_losses(generated, documents)])


def test_each_loss_stands_at_its_step_under_its_rule_by_prompt_and_source(tmp_path: Path) -> None:
    rows = rows_of(
        ("collected", "", "a.csv"),
        ("collected", "", "a.csv"),
        *[("generated", "write", "a.csv")] * 6,
        ("generated", "write", "b.csv"),
    )
    rejected = [
        ("write", "d1", "render: variable 'x': no such field"),
        ("write", "d1", "refused: too long: really"),
        ("write", "d1", "schema: 'a' is too short"),
        ("write", "d1", "judge strict: score 1, 'bad: very'"),
        ("write", "d1", "judge strict: no verdict: empty: the answer has no text"),
        ("write", "d2", "surplus: limits.rows 7 was reached"),
        ("vary", "gone", "empty: the answer has no text"),
    ]
    found = find_waterfall(
        rows,
        lost(message_length=[2, 3], queue_in_set=[4]),
        lost(holdout=[5]),
        lost(exact=[1], near=[6]),
        *artifacts(tmp_path, rejected, d1="a.csv", d2="b.csv"),
    )
    assert found.groups == (
        Group("(collected)", "a.csv", 2, {"distinct": {"exact": 1}}),
        Group("vary", "(unknown)", 1, {"parsed": {"empty": 1}}),
        Group(
            "write",
            "a.csv",
            11,
            {
                "answered": {"render": 1, "refused": 1},
                "parsed": {"schema": 1},
                "judged_good": {"judge strict": 2},
                "valid": {"message length": 2, "queue in set": 1},
                "uncontaminated": {"holdout": 1},
                "distinct": {"near": 1},
            },
        ),
        Group("write", "b.csv", 2, {"wanted": {"surplus": 1}}),
    )
    assert found.groups[2].counts == {
        "asked": 11, "answered": 9, "parsed": 8, "judged_good": 6, "wanted": 6, "valid": 3, "uncontaminated": 2,
        "distinct": 1, "trained": 1,
    }  # fmt: skip
    assert (found.total.asked, found.total.kept) == (16, 3)


def test_sources_of_a_prompt_are_added_up() -> None:
    whole = Waterfall(
        (
            Group("write", "a.csv", 5, {"parsed": {"empty": 1}, "distinct": {"exact": 1}}),
            Group("write", "b.csv", 5, {"parsed": {"schema": 2, "empty": 1}}),
        )
    )
    assert whole.by_prompt().groups == (
        Group("write", "all", 10, {"parsed": {"empty": 2, "schema": 2}, "distinct": {"exact": 1}}),
    )


def test_rows_that_the_training_set_aside_are_its_last_step(tmp_path: Path) -> None:
    found = Waterfall((Group("write", "a.csv", 5, {"distinct": {"exact": 1}}), Group("write", "b.csv", 2)))
    lost = [("write", "a.csv", rule) for rule in ("too_long", "template_refuses", "too_long")]
    after = found.with_training(lost)
    assert after.groups[0].lost["trained"] == {"too_long": 2, "template_refuses": 1}
    assert (after.groups[0].counts["distinct"], after.groups[0].kept, after.groups[1]) == (4, 1, found.groups[1])
    assert found.by_prompt().with_training([("write", "all", "too_long")]).total.kept == after.total.kept + 2
    write_waterfall(tmp_path, after)
    assert read_waterfall(tmp_path / "waterfall.json") == after


def test_without_generation_there_are_collected_rows_alone(tmp_path: Path) -> None:
    _, documents = artifacts(tmp_path, [])
    found = find_waterfall(rows_of(("collected", None, "")), NOBODY, NOBODY, NOBODY, None, documents)
    assert found.groups == (Group("(collected)", "(unknown)", 1),)
    nothing = find_waterfall(rows_of(), NOBODY, NOBODY, NOBODY, None, documents)
    assert nothing.groups == () and (nothing.total.asked, nothing.total.kept) == (0, 0)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_every_row_is_counted_once_and_counts_never_rise(tmp_path: Path, data: st.DataObject) -> None:
    texts = st.none() | st.sampled_from(["write", "vary", "写", ""])
    origins = st.sampled_from(["collected", "generated"])
    rows = data.draw(st.lists(st.tuples(origins, texts, texts), max_size=30))
    fates = data.draw(st.lists(st.sampled_from(["kept", "a", "b", "c"]), min_size=len(rows), max_size=len(rows)))
    bad, leaked, twice = (lost(rule=[at for at, fate in enumerate(fates) if fate == step]) for step in "abc")
    rules = st.sampled_from(sorted(LOST_AT)).map(lambda kind: f"{kind}: x: y")
    rejected = data.draw(st.lists(st.tuples(st.sampled_from(["write", "vary"]), st.just("d1"), rules), max_size=20))
    found = find_waterfall(rows_of(*rows), bad, leaked, twice, *artifacts(tmp_path, rejected, d1="a.csv"))
    assert found.total.asked == len(rows) + len(rejected)
    assert found.total.kept == fates.count("kept")
    for group in (*found.groups, *found.by_prompt().groups, found.total):
        counts = list(group.counts.values())
        assert list(group.counts) == list(STEPS) and counts[0] == group.asked and counts[-1] == group.kept >= 0
        assert all(before >= after for before, after in pairwise(counts))
    assert found.by_prompt().total == found.total


@pytest.mark.parametrize("steps", [(lost(a=[0]), lost(b=[0])), (lost(a=[0, 0]), NOBODY)], ids=["two steps", "one step"])
def test_a_row_that_is_lost_twice_is_a_defect(tmp_path: Path, steps: tuple[Lost, Lost]) -> None:
    with pytest.raises(AssertionError, match="lost twice"):
        find_waterfall(rows_of(("generated", "p", "s")), *steps, NOBODY, None, tmp_path)


def test_every_rule_that_the_generate_stage_can_write_has_a_step(tmp_path: Path) -> None:
    written = set()
    for module in WRITES_RULES:
        text = (PROJECT_ROOT / "tasks" / module).read_text(encoding="utf-8")
        written |= set(re.findall(r"""[fr]?["']([a-z_]+): """, text))
    assert written | {"judge"} == set(LOST_AT)
    with pytest.raises(AssertionError, match="'novel' that no step knows"):
        find_waterfall(rows_of(), NOBODY, NOBODY, NOBODY, *artifacts(tmp_path, [("write", "d1", "novel: x")]))


def test_the_file_reads_back_and_the_picture_is_drawn(tmp_path: Path) -> None:
    groups = [Group(f"$p$ {number}", "源[1].csv" * 20, 100 + number, {"parsed": {"empty": 60}}) for number in range(14)]
    found = Waterfall(tuple(groups))
    write_waterfall(tmp_path, found)
    assert read_waterfall(tmp_path / "waterfall.json") == found
    stored = json.loads((tmp_path / "waterfall.json").read_text(encoding="utf-8"))
    assert stored["steps"] == list(STEPS) and stored["groups"][0]["counts"]["distinct"] == 40
    tall, wide, _ = imread(tmp_path / "report" / "waterfall.png").shape
    assert tall > wide  # a total and a bar for each of the largest groups


@pytest.mark.parametrize("found", [Waterfall(), Waterfall((Group("p", "s", 0),)), Waterfall((Group("p", "s", 9),))])
def test_little_can_be_drawn_too(tmp_path: Path, found: Waterfall) -> None:
    write_waterfall(tmp_path, found)
    tall, wide, _ = imread(tmp_path / "report" / "waterfall.png").shape
    assert wide > tall
