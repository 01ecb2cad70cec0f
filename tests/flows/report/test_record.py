"""The record of a run says what happened, also of a run that could not say it any more."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from flows.report.page import PAGE, evaluation_markdown, samples_markdown, write_page
from flows.report.record import RECORD, RunRecord, read_record, rows_table
from flows.report.stage_lines import percent
from tasks.core.artifacts import Summary
from tasks.core.errors import RecipeError
from tasks.core.home import Home
from tests.flows.whole_night import SAMPLE, STAGES, comparison, record_night, version, with_curve, write_artifact
from tests.retune.command import retune


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def page(record: RunRecord) -> str:
    write_page(record)
    return (Path(record.folder) / PAGE).read_text(encoding="utf-8")


def read_json(home: Home) -> dict[str, Any]:
    """What ``retune report --json`` prints: one object that other programs can read."""
    text = json.dumps(asdict(read_record(home)), allow_nan=False)
    found: dict[str, Any] = json.loads(text)
    return found


@pytest.mark.parametrize(
    ("candidate", "night", "status", "reason"),
    [
        (0.9, {"champion": version("2")}, "published", "the candidate is better"),
        (0.9, {"champion": version("2"), "cached": True}, "published", "the candidate is better"),
        (0.1, {"promoted": False, "champion": version("1")}, "rejected", "not better"),
        (0.9, {"promoted": False, "cached": True, "champion": version("2")}, "no-op", "has changed"),
        (0.1, {"promoted": False, "cached": True}, "no-op", "has changed"),
        (0.9, {"promoted": False, "known": version("2")}, "no-op", "as version 2"),
    ],
    ids=["new champion", "publish only", "worse", "unchanged", "worse and unchanged", "published before"],
)
def test_the_status_says_what_the_night_changed(
    home: Home, candidate: float, night: dict[str, Any], status: str, reason: str
) -> None:
    record = record_night(home, comparison(0.2, candidate), **night)
    assert record.status == status and reason in record.reason
    assert read_record(home) == record
    assert page(record).startswith(f"# embedded: {status}\n")


def test_the_learning_curve_is_told_everywhere(home: Home) -> None:
    record = record_night(home, with_curve(comparison()))
    said = "Doubling the rows, from 60 to 120, changed accuracy by +40.0 points"
    text = page(record)
    assert said in text and "| 0.5 | 60 | 50.0% | 40.4% to 59.6% |" in text and "| 1 | 120 | 90.0% |" in text
    shown = retune(home.root, "report").stdout
    assert said in shown and "training rows" in shown
    assert read_json(home)["evaluation"]["curve"][1]["rows"] == 120
    assert "Doubling" not in page(record_night(home, comparison()))


def test_intervals_are_headed_with_the_confidence_that_they_have(home: Home) -> None:
    record = record_night(home, with_curve({**comparison(), "confidence": 0.975}))
    assert "| model | accuracy | 97.5% interval |" in page(record)
    assert retune(home.root, "report").stdout.count("97.5% interval") == 2, "of the evaluation and of the curve"


def test_a_base_that_is_better_among_the_labels_alone_is_told(home: Home) -> None:
    rates = "accuracy 95.0%, more than the tuned model's 90.0%"
    said = f"The base, restricted to the labels, reaches {rates}"
    record = record_night(home, {**comparison(), "base_restricted": 0.95})
    assert said in page(record) and said in retune(home.root, "report").stdout
    assert "restricted to the labels" not in page(record_night(home, comparison()))
    for too_little in (None, 0.90001):
        assert "restricted to the labels" not in page(
            record_night(home, {**comparison(), "base_restricted": too_little})
        )


def test_a_base_that_is_better_with_examples_and_what_was_forgotten_are_told(home: Home) -> None:
    probe = {"prompt": "Why?", "base": "Because.", "candidate": "cards", "champion": None}
    found = {**comparison(few_shot=0.95), "probes": [probe], "probes_kept": 0.25, "probes_labelled": 1}
    record = record_night(home, found)
    for text in (page(record), retune(home.root, "report").stdout):
        assert "with examples in its prompt, reaches accuracy 95.0%" in text
        assert "share 25.0% of their words with the base's (mean token F1); 1 are answered with a bare label" in text
        assert "Because." in text and "cards" in text


def test_a_rejected_candidate_is_named_beside_the_champion_with_the_reason(home: Home) -> None:
    record = record_night(home, comparison(0.5, 0.4), promoted=False, champion=version("1"))
    assert "not better" in record.reason and record.reason in page(record)
    assert (record.champion or {})["version"] == "1" and (record.candidate or {})["version"] == "2"


def test_the_json_has_the_promised_keys_and_rates_are_fractions(home: Home) -> None:
    record_night(home, comparison(), champion=version("2"))
    found = read_json(home)
    assert found.keys() >= {"run_id", "recipe", "status", "seconds", "stages", "evaluation", "champion"}
    assert list(found["stages"]) == [*STAGES, "publish"]
    for stage in found["stages"].values():
        assert stage.keys() >= {"seconds", "rows_in", "accepted", "quarantined", "duplicates", "contaminated", "cached"}
        lost = stage["quarantined"] + stage["duplicates"] + stage["contaminated"]
        assert stage["rows_in"] == stage["accepted"] + lost
    evaluation = found["evaluation"]
    assert evaluation.keys() >= {
        "metric", "n", "base", "candidate", "champion", "difference", "ci_low", "ci_high",
    }  # fmt: skip
    assert (evaluation["n"], evaluation["base"], evaluation["candidate"]) == (100, 0.1, 0.9)
    assert evaluation["difference"] == pytest.approx(0.8)
    assert 0 < evaluation["ci_low"] < 0.8 < evaluation["ci_high"] <= 1
    assert evaluation["champion"] is None
    assert found["champion"].keys() >= {"name", "version", "path"}


def test_a_night_without_any_champion_says_so_with_null_and_why(home: Home) -> None:
    record = record_night(home, comparison(0.5, 0.4), promoted=False, missing="No version is champion: taken back.")
    assert read_json(home)["champion"] is None
    assert record.reason.endswith(". No version is champion: taken back.") and record.reason in page(record)


def test_a_run_that_failed_says_why_and_keeps_what_it_had_done(home: Home) -> None:
    record = RunRecord.start(home, "embedded", "")
    record.stage("collect", write_artifact(home, "collect", Summary(3, 3)), 0.1, False)
    record.fail(RecipeError("It failed", where="a.yaml:3", remedy="mend it"))
    found = read_record(home)
    assert (found.status, found.reason) == ("failed", "It failed")
    assert found.error == "It failed\n  where:  a.yaml:3\n  remedy: mend it"
    assert found.stages["collect"]["rows_in"] == 3
    assert "remedy: mend it" in page(record) and "| collect | 3 | 3 | 0 | 0 | 0 |" in page(record)
    assert page(record).count("It failed") == 1


def test_the_error_of_a_run_names_its_report(home: Home) -> None:
    record = RunRecord.start(home, "embedded", "")
    error = RecipeError("It failed")
    record.fail(error)
    (note,) = error.__notes__
    assert record.run_id in note and note.endswith(f"retune report --run {record.run_id}")
    assert "retune report" not in page(record)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ZeroDivisionError("x"), RecipeError("")])
def test_any_exception_can_be_recorded(home: Home, error: BaseException) -> None:
    RunRecord.start(home, "embedded", "").fail(error)
    assert read_record(home).status == "failed" and read_record(home).error is not None


def test_a_run_that_was_killed_reads_as_failed_and_one_under_way_as_running(home: Home) -> None:
    RunRecord.start(home, "embedded", "")
    with FileLock(home.root / "run.lock"):
        assert read_record(home).status == "running"
    found = read_record(home)
    assert found.status == "failed" and "killed" in str(found.error)
    assert found.reason


def test_the_latest_run_is_read_unless_one_is_named(home: Home) -> None:
    for name in ("20250101T000000Z-b", "20250102T000000Z-a"):
        record = RunRecord(name, "embedded", "rejected", 0.0, str(home.runs / name))
        record.write()
    assert read_record(home).run_id == "20250102T000000Z-a"
    assert read_record(home, "20250101T000000Z-b").run_id == "20250101T000000Z-b"
    with pytest.raises(RecipeError, match="no run 'x'"):
        read_record(home, "x")


@pytest.mark.parametrize("damaged", ["", "{half", "[]", '{"run_id": "x"}', '{"a_key_of_another_version": 1}'])
def test_a_damaged_record_is_named_and_the_run_before_it_is_shown(
    home: Home, damaged: str, capsys: pytest.CaptureFixture[str]
) -> None:
    RunRecord("20250101T0-a", "embedded", "rejected", 0.0, str(home.runs / "20250101T0-a")).write()
    broken = home.runs / "20250102T0-b" / RECORD
    broken.parent.mkdir()
    broken.write_text(damaged, encoding="utf-8")
    assert read_record(home).run_id == "20250101T0-a"
    said = " ".join(capsys.readouterr().err.split())
    assert "The record of run 20250102T0-b is damaged" in said and "showing the run before it" in said
    with pytest.raises(RecipeError, match="The record of run 20250102T0-b is damaged") as caught:
        read_record(home, "20250102T0-b")
    assert caught.value.where == str(broken)


def test_before_the_first_run_there_is_nothing_to_report(home: Home) -> None:
    with pytest.raises(RecipeError, match="no run yet") as caught:
        read_record(home)
    assert "retune run" in caught.value.remedy


def test_every_run_has_a_folder_of_its_own_named_by_its_flow_run(home: Home) -> None:
    record = RunRecord.start(home, "embedded", "abcdef-123")
    assert record.run_id.endswith("Z-abcdef")
    assert json.loads((Path(record.folder) / RECORD).read_text(encoding="utf-8"))["status"] == "running"
    assert RunRecord.start(home, "embedded", "").folder != record.folder


def test_what_is_found_done_was_not_asked_again(home: Home) -> None:
    record = record_night(home, comparison(), cached=True, promoted=False)
    assert (record.stages["generate"]["asked"], record.stages["generate"]["reused"]) == (0, 10)


def test_the_page_shows_stages_prompts_readings_and_probes(home: Home) -> None:
    record = record_night(home, comparison(), champion=version("2"))
    text = page(record)
    assert "| generate | 10 | 7 | 2 | 1 | 0 | 1.23 |  |" in text
    assert "write 7 of 10" in text and "9 asked, 1 reused" in text
    assert "| base, free answer | 10.0% |" in text and "| tuned (candidate) | 90.0% |" in text
    assert "| What \\| now? | a b | - |" in text
    assert "Champion: router version 2\nin /artifacts/2" in text
    assert [row["stage"] for row in rows_table(record)] == [*STAGES, "publish"]


@pytest.mark.parametrize("reason", ["Nothing has changed. One document is new.", "It is better."])
def test_what_is_new_is_told_once(home: Home, reason: str) -> None:
    record = RunRecord.start(home, "embedded", "")
    record.changes, record.reason = "One document is new.", reason
    assert page(record).count("One document is new.") == 1


def test_a_run_without_generation_or_evaluation_still_has_its_texts(home: Home) -> None:
    record = RunRecord.start(home, "embedded", "")
    assert evaluation_markdown(record) == "No evaluation in this run."
    assert samples_markdown({}) == "This recipe generates nothing."
    ref = write_artifact(home, "generate", Summary(details={"samples": [SAMPLE]}))
    assert samples_markdown({"generate": ref}).splitlines()[-1] == "| write | a \\| b c | cards |"


def test_rates_are_shown_as_percentages() -> None:
    assert [percent(rate) for rate in (0.1234, 1.0, None, -0.05)] == ["12.3%", "100.0%", "-", "-5.0%"]
