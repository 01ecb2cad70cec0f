"""What the morning says of validation: in words, in tables, and by links that lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from flows.report.drift_table import drift_table
from flows.report.page import report_markdown
from flows.report.record import RunRecord, read_record
from flows.report.stage_lines import collect_lines, stage_lines, training_set_lines, validate_lines
from flows.report.waterfall_tables import MOST_GROUPS, waterfall_table
from tasks.core.details import CollectDetails, TrainingSetDetails, ValidateDetails
from tasks.core.errors import ContractViolation
from tasks.core.files import write_json
from tasks.core.home import Home
from tasks.validate.waterfall.yields import WATERFALL, Group, Waterfall
from tests.flows.small_night import SmallNight, small_night
from tests.retune.command import retune

LastNight = tuple[SmallNight, RunRecord]
LINK = re.compile(r"\]\(([^)]+)\)")


def links(record: RunRecord) -> list[Path]:
    """Where the page's links lead."""
    return [Path(record.folder, unquote(link)) for link in LINK.findall(report_markdown(record))]


def test_the_page_tells_what_validation_found(last_night: LastNight) -> None:
    text = report_markdown(last_night[1])
    for said in (
        "Held out for the evaluation: ",
        "Documents that broke their contract: nothing internal 2.",
        "Held-out documents that will not be asked, because they broke their contract: 1.",
        "Rows that broke a contract: long enough 1, short enough 1.",
        "Warnings of the rows' contracts: polite (",
        "Rows that repeat an evaluation text: holdout 1; for example, row ",
        "100.0% of 'msg-",
        "Duplicates: exact 1, near 1.",
        "Diversity of 2 rows of the training set: distinct-1 ",
        "The training set was compared with nothing: none was published before.",
    ):
        assert said in text
    assert "| validate | 7 | 2 | 2 | 2 | 1 |" in text


def test_the_page_has_the_waterfall_and_links_to_its_picture_and_to_all_data_docs(last_night: LastNight) -> None:
    record = last_night[1]
    lost = "truncated 1, empty 1, judge strict 1, long enough 1, short enough 1, holdout 1"
    assert "| write | messages.csv | 10 | 10 | 8 | 7 | 7 | 5 | 4 | 2 | " in report_markdown(record)
    assert set(lost.split(", ")) <= set(waterfall_table(record)[0]["lost to"].split(", "))
    found = links(record)
    assert all(path.is_file() for path in found)
    assert [path.name for path in found].count("index.html") == 5 and found[0].name == "waterfall.png"


def test_the_terminal_shows_yield_by_prompt_and_where_everything_lies(last_night: LastNight) -> None:
    night, record = last_night
    shown = retune(night.home.root, "report").stdout
    assert re.search(r"│ write +│ 10 +│ 8 +│ 7 +│ 5 +│ 4 +│ 2 +│", shown), "steps that took nothing are left out"
    for place in (f"data docs, validate, rows: {record.stages['validate']['path']}", "waterfall: ", "page: "):
        assert place in shown
    assert f"retune quarantine list --run {record.run_id}" in shown


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> LastNight:
    """A night in which nearly every row broke a contract."""
    night = small_night(tmp_path_factory.mktemp("failed"))
    night.write_row_contract(least=1000, most=2000)
    with pytest.raises(ContractViolation):
        night.run()
    return night, read_record(night.home)


def test_a_night_that_was_stopped_says_why_once_and_where_the_evidence_lies(failed: LastNight) -> None:
    night, record = failed
    text = report_markdown(record)
    assert text.count("Too little is left to train on") == 1 and "lost 7 to long enough" in text
    found = links(record)
    assert all(path.exists() for path in found)
    names = {path.name for path in found}
    assert {"index.html", "quarantine.parquet", "waterfall.png"} <= names
    assert all(f"logs/{record.run_id}/validate" in str(path.resolve()) for path in found if path.name != "index.html")
    assert f"retune quarantine replay --run {record.run_id}" in text
    shown = retune(night.home.root, "report", "--run", record.run_id).stdout
    assert shown.count("Too little is left to train on") == 1
    assert f"findings of stage validate, which stopped the run: {record.evidence['validate']}" in shown


def measure(value: float, limit: float | None = None, holds: bool = True, **more: Any) -> dict[str, Any]:
    return {"value": value, "limit": limit, "holds": holds, "severity": "critical", "said": "a to b", **more}


def test_drift_is_a_table_of_measures_against_both_publications(tmp_path: Path) -> None:
    record = RunRecord.start(Home(tmp_path), "mine", "")
    drift = {
        "label_distance": measure(0.01, 0.2, said="cards 50% to 51%"),
        "label_distance_since_baseline": measure(0.4, 0.3, holds=False, said="cards 50% to 90%"),
        "row_count_change": measure(-0.5),
    }
    record.stages["check_training_set"] = {"drift": drift}
    assert drift_table(record) == [
        ("label distance", "0.010, limit 0.2", "0.400, limit 0.3", "over a limit (critical)", "cards 50% to 90%"),
        ("row count change", "-0.500", "-", "-", "a to b"),
    ]


def test_drift_that_stopped_the_run_is_read_from_its_evidence(tmp_path: Path) -> None:
    home = Home(tmp_path)
    record = RunRecord.start(home, "mine", "")
    kept = home.logs / record.run_id / "check_training_set"
    (kept / "report").mkdir(parents=True)
    write_json(kept / "drift.json", {"drift": {"refusal_change": measure(0.3, 0.1, holds=False)}})
    record.fail(ContractViolation("The training set has moved too far", where="x:1"))
    record.stages["collect"] = {"path": "x", "seconds": 1, "cached": True}
    (row,) = drift_table(record)
    assert row[:4] == ("refusal change", "0.300, limit 0.1", "-", "over a limit (critical)")
    assert "| refusal change | 0.300, limit 0.1 | - | over a limit (critical) | a to b |" in report_markdown(record)


def test_what_a_measure_is_compared_with_is_named() -> None:
    compared = {"the last published version": "7", "the baseline version": "1"}
    (line,) = training_set_lines(TrainingSetDetails(compared_with=compared))
    assert line == "The training set was compared with the last published version 7 and the baseline version 1."


def test_floors_are_told_with_the_label_that_has_least_to_spare() -> None:
    floors = {"minimum_rows": [938, 200], "cards": [50, 20], "a 'label'": [21, 20]}
    said = "Floors: 938 rows, 200 required; nearest to its floor is the answer \"a 'label'\": 21, 20 required."
    assert validate_lines(ValidateDetails(floors=floors)) == [said]
    assert validate_lines(ValidateDetails(floors={"minimum_rows": [5, 1]})) == []


def test_documents_that_are_held_out_are_told_so_that_the_stages_counts_can_be_followed() -> None:
    splits = {"train": 478, "holdout": 135}
    said = "Held out for the evaluation: 135, of which 2 are no longer in the sources."
    assert collect_lines(CollectDetails(splits=splits, gone_but_held_out=2), "x") == [said]
    assert collect_lines(CollectDetails(splits=splits), "x") == ["Held out for the evaluation: 135."]
    assert collect_lines(CollectDetails(splits={"train": 3, "holdout": 0}), "x") == []


def test_a_night_of_nothing_says_nothing() -> None:
    assert stage_lines({"collect": {}, "check_documents": {}, "validate": {}}) == []


def test_a_waterfall_of_many_sources_is_cut_and_still_adds_up(tmp_path: Path) -> None:
    record = RunRecord.start(Home(tmp_path), "mine", "")
    groups = tuple(Group("write", f"s{n}", n + 1, {"parsed": {"empty": 1}}) for n in range(MOST_GROUPS + 5))
    write_json(tmp_path / WATERFALL, Waterfall(groups).as_json())
    record.stages["validate"] = {"path": str(tmp_path), "seconds": 0.0, "cached": False}
    *rows, rest, total = waterfall_table(record)
    assert len(rows) == MOST_GROUPS and rest["prompt"] == "(5 more)" and total["prompt"] == "all"
    assert sum(row["asked"] for row in (*rows, rest)) == total["asked"] == sum(group.asked for group in groups)
    assert (rest["asked"], rest["distinct, kept"], total["lost to"]) == (15, 10, f"empty {MOST_GROUPS + 5}")
