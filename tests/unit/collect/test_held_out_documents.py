"""Ids in other spellings: whatever an earlier night wrote, no document changes sides."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tasks.core.errors import SourceError
from tasks.core.home import Home
from tests.fixtures.make_ledger import DOCUMENTS, collect, rows_of

LEDGERS = Path(__file__).parents[2] / "fixtures" / "older_ledger"
"""Written by version 0.4: see ``make_ledger.py``."""


def sides(found: dict[str, list[dict[str, Any]]]) -> tuple[set[str], set[str]]:
    trained, held = ({row["document_id"] for row in found[name]} for name in ("train", "holdout"))
    assert not trained & held
    return trained, held


def home_of(folder: Path, recipe: str) -> Home:
    home = Home(folder / "home")
    shutil.copytree(LEDGERS / recipe, home.holdouts / recipe)
    return home


@pytest.mark.parametrize("ends", [[""], [".0"], ["", ".0", ""], [".0", "", ".00"]], ids=str)
@pytest.mark.parametrize("recipe", ["whole", "points", "both"])
def test_no_document_of_an_older_home_changes_sides(tmp_path: Path, recipe: str, ends: list[str]) -> None:
    """The older version called the last night's documents 7 or 7.0; the present one reads them in any spelling."""
    before = json.loads((LEDGERS / "sides.json").read_text(encoding="utf-8"))[recipe]
    held_before = {name.removesuffix(".0") for name in before["holdout"]}
    trained_before = {name.removesuffix(".0") for name in before["train"]} - held_before
    home = home_of(tmp_path, recipe)
    for end in ends:
        (tmp_path / "rows.csv").write_text(rows_of(end), encoding="utf-8")
        trained, held = sides(collect(home, recipe, tmp_path / "rows.csv"))
        assert held == held_before and trained == trained_before


@pytest.mark.parametrize("recipe", ["whole", "points", "both"])
def test_new_documents_of_an_older_home_stay_on_their_side_in_every_spelling(tmp_path: Path, recipe: str) -> None:
    home = home_of(tmp_path, recipe)
    found = []
    for end in (".0", "", ".0"):
        (tmp_path / "rows.csv").write_text(rows_of(end, 4 * DOCUMENTS), encoding="utf-8")
        found.append(sides(collect(home, recipe, tmp_path / "rows.csv")))
    assert found[0] == found[1] == found[2]


def test_a_held_out_document_that_is_gone_is_kept_once(tmp_path: Path) -> None:
    home = home_of(tmp_path, "both")
    (tmp_path / "rows.csv").write_text("id,text,answer\n1000,other,words\n", encoding="utf-8")
    held = [row["document_id"] for row in collect(home, "both", tmp_path / "rows.csv")["holdout"]]
    assert len(held) == len(set(held)) > 10


def nights(folder: Path, recipe: str, *spellings: list[str]) -> list[tuple[set[str], set[str]]]:
    home, found = Home(folder / "home"), []
    for names in spellings:
        rows = "".join(f'"{name}",text {number},answer {number}\n' for number, name in enumerate(names))
        (folder / "rows.csv").write_text("id,text,answer\n" + rows, encoding="utf-8")
        found.append(sides(collect(home, recipe, folder / "rows.csv")))
    return found


def test_a_null_that_joins_the_ids_changes_nothing(tmp_path: Path) -> None:
    whole, points = nights(
        tmp_path, "r", [str(number) for number in range(40)], [f"{number}.0" for number in range(40)]
    )
    assert whole == points and len(whole[1]) > 2


@pytest.mark.parametrize(
    ("before", "after"),
    [("{:03}", "{}"), ("T-{}", "t-{}"), ("{}", "{:05}"), ("INV {}", "INV-{}")],
    ids=["zeros lost", "case", "zeros added", "punctuation"],
)
def test_a_night_whose_ids_look_like_known_ones_stops_and_names_them(tmp_path: Path, before: str, after: str) -> None:
    names = [[form.format(number) for number in range(40)] for form in (before, after)]
    with pytest.raises(SourceError, match="another spelling of their id") as caught:
        nights(tmp_path, "r", *names)
    assert "is now" in caught.value.where and "as before" in caught.value.remedy
    (folder,) = (tmp_path / "home" / "holdouts").iterdir()
    (trained, held), (again, held_again) = nights(tmp_path, "r", names[0], [*names[0], "new"])
    assert folder.name == "r" and trained | held == (again | held_again) - {"new"} and held <= held_again


def test_other_documents_may_come_and_known_ones_go(tmp_path: Path) -> None:
    names = [f"a{number}" for number in range(40)]
    nights(tmp_path, "r", names, [f"b{number}" for number in range(40)])


def test_an_id_that_lost_its_digits_is_quarantined_by_name(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(
        "".join(json.dumps({"id": name, "text": f"t {name}", "answer": "a"}) + "\n" for name in (7.0, 1e18, "x")),
        encoding="utf-8",
    )
    home = Home(tmp_path / "home")
    collect(home, "r", tmp_path / "rows.jsonl")
    (file,) = home.artifacts.glob("collect/*/quarantine.parquet")
    (row,) = pq.read_table(file).to_pylist()
    assert row["rule"].startswith("inexact_id: 'id' is 1e+18") and row["line"] == 2
