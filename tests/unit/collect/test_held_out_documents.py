"""Ids in other spellings: whatever an earlier night wrote, no document changes sides."""

from __future__ import annotations

import json
import shutil
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.collect.collect import CollectJob
from tasks.collect.config import CollectConfig
from tasks.collect.held_out_documents import SCHEMA
from tasks.core.artifacts import ArtifactStore
from tasks.core.config import ChatTask
from tasks.core.errors import SourceError
from tasks.core.files import file_digest
from tasks.core.home import Home
from tasks.core.stage import StageContext
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


def passages(folder: Path, home: Home, file: str) -> dict[str, set[str]]:
    """The passages, which have no id, of one night; a column of numbers and one of classes are part of them."""
    config = {"sources": [{"path": str(folder / file)}], "columns": {"text": "text", "stars": "stars", "team": "team"}}
    job = CollectJob(CollectConfig.model_validate(config), ChatTask(), (), "r", home)
    key = job.key()
    ref = ArtifactStore(home.artifacts).write(key, lambda to: job.fill(to, StageContext(home, "r", key.hex)))
    return {name: {row["text"] for row in pq.read_table(ref.folder / f"{name}.parquet").to_pylist()} for name in SPLITS}


SPLITS = ("train", "holdout")
FEATURES = {"team": {"_type": "ClassLabel", "names": ["sales", "service"]}}


def write_passages(folder: Path, count: int) -> None:
    """A Parquet file, and JSON with the texts that version 0.4 read from it."""
    rows = [{"text": f"passage {one}", "stars": float(one % 5), "team": one % 2} for one in range(count)]
    metadata = {"huggingface": json.dumps({"info": {"features": FEATURES}})}
    pq.write_table(pa.Table.from_pylist(rows).replace_schema_metadata(metadata), folder / "a.parquet")
    old = [{**row, "stars": str(row["stars"]), "team": str(row["team"])} for row in rows]
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in old), encoding="utf-8")


def test_a_document_without_an_id_keeps_its_side_though_its_values_are_read_otherwise(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    write_passages(tmp_path, 60)
    before = passages(tmp_path, home, "a.jsonl")
    (ledger,) = (home.holdouts / "r").glob("*.parquet")
    older = pq.read_table(ledger).replace_schema_metadata(None)  # as version 0.4 left it
    pq.write_table(older, ledger)
    digest = file_digest(ledger)
    ledger.rename(ledger.with_name(f"{digest}.parquet"))
    (home.holdouts / "r" / "state.json").write_text(json.dumps({"sources": "", "before": None, "after": digest}))
    for count in (60, 61, 62):
        write_passages(tmp_path, count)
        after = passages(tmp_path, home, "a.parquet")
        for name in SPLITS:
            assert before[name] <= after[name]
    assert len(before["holdout"]) > 5


def test_numbers_with_and_without_a_point_are_one_label_and_one_category(tmp_path: Path) -> None:
    rows = {"id": [1.0, 2.0, 3.0], "text": ["a", "b", "c"], "stars": [4.0, 5.0, None], "year": [2024.0, 2025.0, 2024.0]}
    pq.write_table(pa.table(rows), tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text("id,text,stars,year\n1,a,4.0,2024.0\n2,b,5,2025\n3,c,,2024\n", encoding="utf-8")
    for labels in (("4", "5"), ("4.0", "5.0")):
        for file in ("a.parquet", "a.csv"):
            config = {
                "sources": [{"path": str(tmp_path / file)}],
                "columns": {"text": "text", "stars": "stars"},
                "where": {"year": ["2024"]},
                "id_column": "id",
            }
            task = ChatTask(input="text", output="stars", labels=labels)
            home = Home(tmp_path / f"{file}-{labels[0]}")
            job = CollectJob(CollectConfig.model_validate(config), task, (), "r", home)
            (tmp_path / "out").mkdir(exist_ok=True)
            summary = job.fill(tmp_path / "out", StageContext(home, "r", "k"))
            assert (summary.accepted, summary.details.labels) == (1, {labels[0]: 1})
            assert summary.details.rules == {"missing": 1} and summary.details.left_out == 1


def test_an_id_that_hygiene_hides_is_known_by_the_digest_of_its_older_spelling(tmp_path: Path) -> None:
    """A card number as an id, which version 0.4 read with a point and kept as a digest."""
    number, home = "4111111111111111", Home(tmp_path / "home")
    older = {"document_id": sha256(f"{number}.0".encode()).hexdigest()[:32], "input": b"older", "content": b"older"}
    plain = {"document_id": "7.0", "input": b"plain", "content": b"plain"}
    rows = [{**row, "named": True, "stands": True, "fields": '{"text": "former"}'} for row in (older, plain)]
    (home.holdouts / "r").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), tmp_path / "ledger.parquet")
    digest = file_digest(tmp_path / "ledger.parquet")
    (tmp_path / "ledger.parquet").rename(home.holdouts / "r" / f"{digest}.parquet")
    state = {"sources": "", "before": None, "after": digest}
    (home.holdouts / "r" / "state.json").write_text(json.dumps(state), encoding="utf-8")
    (tmp_path / "a.csv").write_text(f"id,text\n{number}.0,new words\n7,others\n", encoding="utf-8")
    config = {"sources": [{"path": str(tmp_path / "a.csv")}], "columns": {"text": "text"}, "id_column": "id"}
    job = CollectJob(CollectConfig.model_validate({**config, "holdout_fraction": 1e-9}), ChatTask(), (), "r", home)
    (tmp_path / "out").mkdir()
    job.fill(tmp_path / "out", StageContext(home, "r", "k"))
    held = pq.read_table(tmp_path / "out" / "holdout.parquet").to_pylist()
    assert {row["document_id"]: row["text"] for row in held} == {
        sha256(number.encode()).hexdigest()[:32]: "new words",
        "7": "others",
    }
    assert len(held) == 2
