"""``retune quarantine list`` and ``sample``: every row that a run set aside, by what took it."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.report.record import RECORD, RunRecord, rows_table
from retune.quarantine.counts import Line, count_lost_rows, merge_sources
from retune.quarantine.lost_rows import FILES, read_lost_rows
from retune.quarantine.run_files import RunFiles, find_run
from retune.quarantine.samples import sample_lost_rows
from tasks.core.errors import RecipeError
from tasks.core.files import write_json
from tasks.core.home import Home
from tasks.validate.quarantine import QUARANTINE
from tests.flows.small_night import LONG_RULE, SHORT_RULE, SmallNight
from tests.retune.command import retune

LastNight = tuple[SmallNight, RunRecord]
SOURCE = "messages.csv"


@pytest.fixture
def files(last_night: LastNight) -> RunFiles:
    return find_run(last_night[0].home, None)


def test_every_row_is_counted_by_stage_rule_prompt_and_source(files: RunFiles) -> None:
    assert count_lost_rows(files).lines == (
        Line("collect", "quarantined", "missing", "(collected)", SOURCE, 1),
        Line("check_documents", "quarantined", "nothing internal", "(collected)", SOURCE, 1),
        Line("check_documents", "quarantined", "nothing internal", "(held out)", SOURCE, 1),
        Line("generate", "quarantined", "empty", "write", SOURCE, 1),
        Line("generate", "quarantined", "judge strict", "write", SOURCE, 1),
        Line("generate", "quarantined", "truncated", "write", SOURCE, 1),
        Line("validate", "duplicates", "exact", "write", SOURCE, 1),
        Line("validate", "contaminated", "holdout", "write", SOURCE, 1),
        Line("validate", "quarantined", SHORT_RULE, "write", SOURCE, 1),
        Line("validate", "duplicates", "near", "write", SOURCE, 1),
        Line("validate", "quarantined", LONG_RULE, "write", SOURCE, 1),
    )


def test_the_counts_are_those_of_the_report(files: RunFiles) -> None:
    counts = count_lost_rows(files).rows
    for stage in rows_table(files.record):
        for outcome in FILES:
            assert counts.get(stage["stage"], {}).get(outcome, 0) == stage[outcome]


def broken_twice(folder: Path) -> RunFiles:
    """A run with one row that broke two critical rules and one warning."""
    severities = {"b": "critical", "a": "critical", "c": "warning"}
    breaches = [{"contract": "rows", "rule": rule, "severity": severity} for rule, severity in severities.items()]
    row = {"row_id": "r1", "origin": "generated", "prompt": "write", "source": "s.csv", "breaches": breaches}
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist([row], schema=QUARANTINE), folder / "quarantine.parquet")
    return RunFiles(RunRecord("r", "mine", "failed", 0.0, str(folder)), {"validate": folder})


def test_a_row_counts_once_and_under_each_critical_rule_that_it_broke(tmp_path: Path) -> None:
    counts = count_lost_rows(broken_twice(tmp_path))
    assert counts.rows == {"validate": {"quarantined": 1}}
    assert [(line.rule, line.rows) for line in counts.lines] == [("a", 1), ("b", 1)]


def test_many_sources_can_be_added_up() -> None:
    lines = [Line("generate", "quarantined", rule, "write", f"s{n}", n + 1) for rule in ("a", "b") for n in range(3)]
    lines = [*lines[:4], Line("validate", "duplicates", "near", "write", "s0", 9)]
    assert merge_sources(lines) == (
        Line("generate", "quarantined", "a", "write", "(3 sources)", 6),
        Line("generate", "quarantined", "b", "write", "s0", 1),
        Line("validate", "duplicates", "near", "write", "s0", 9),
    )


def test_a_run_that_set_nothing_aside_has_no_lines(tmp_path: Path) -> None:
    pq.write_table(QUARANTINE.empty_table(), tmp_path / "quarantine.parquet")
    files = RunFiles(RunRecord("r", "mine", "failed", 0.0, str(tmp_path)), {"validate": tmp_path})
    counts = count_lost_rows(files)
    assert counts.lines == () and counts.rows == {"validate": {}}
    with pytest.raises(RecipeError, match="set no row aside"):
        sample_lost_rows(files)


def test_before_the_first_run_there_is_nothing_to_list(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="No run has read documents yet") as caught:
        find_run(Home(tmp_path), None)
    assert "retune run" in caught.value.remedy


def test_the_latest_run_that_read_documents_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = Home(tmp_path)
    (tmp_path / "collect").mkdir()
    for name, stages in (
        ("20260101T0-a", {"collect": {"path": str(tmp_path / "collect")}}),
        ("20260102T0-b", {}),
    ):
        record = RunRecord(name, "mine", "failed", 0.0, str(home.runs / name), stages=stages, reason="a typo")
        record.write()
    assert find_run(home, None).record.run_id == "20260101T0-a"
    said = "This is run 20260101T0-a: the latest, 20260102T0-b (failed), has set nothing aside\n"
    assert capsys.readouterr().err == said
    (home.runs / "20260103T0-c").mkdir()
    (home.runs / "20260103T0-c" / RECORD).write_text("{half", encoding="utf-8")
    assert find_run(home, None).record.run_id == "20260101T0-a"
    assert "the record of the latest, 20260103T0-c, is damaged" in capsys.readouterr().err
    assert find_run(home, "20260101T0-a").record.run_id == "20260101T0-a" and not capsys.readouterr().err
    with pytest.raises(RecipeError, match="It ended before it read any documents"):
        find_run(home, "20260102T0-b")


def test_what_is_gone_is_said(tmp_path: Path) -> None:
    files = broken_twice(tmp_path / "kept")
    gone = {"path": str(tmp_path / "gone")}
    record = RunRecord(
        "r", "mine", "failed", 0.0, str(tmp_path / "runs" / "r"), stages={"collect": gone, "generate": gone}
    )
    record.write()
    with pytest.raises(RecipeError, match="All files that it wrote were removed"):
        find_run(Home(tmp_path), "r")
    record.evidence = {"validate": str(files.folders["validate"])}
    record.write()
    found = find_run(Home(tmp_path), "r")
    assert found.gone == ("collect", "generate") and list(found.folders) == ["validate"]


def test_a_sample_is_drawn_by_its_seed_and_has_values_and_raw_answers(files: RunFiles) -> None:
    drawn = [sample_lost_rows(files, rows=4, seed=seed) for seed in (1, 1, 2, 3)]
    assert drawn[0] == drawn[1] and drawn[0].of == 11
    assert len({tuple(row.row_id for row in one.rows) for one in drawn}) > 1
    (short,) = sample_lost_rows(files, stage="validate", rule=SHORT_RULE, prompt="write").rows
    assert [(one.rule, one.severity, one.said) for one in short.reasons] == [
        (SHORT_RULE, "critical", "too short"), ("polite", "warning", "too short"),
    ]  # fmt: skip
    assert (short.raw, short.turns[-2:]) == ("too short", (("user", "too short"), ("assistant", short.turns[-1][1])))
    json.dumps(drawn[0].as_json())


def test_all_rows_can_be_sampled_each_with_its_reason(files: RunFiles) -> None:
    found = sample_lost_rows(files, rows=1000)
    assert len(found.rows) == read_lost_rows(files).num_rows
    said = {row.reasons[0].rule: row.reasons[0].said for row in found.rows}
    assert said["empty"] == "the answer has no text" and said["missing"] == "'message' is empty"
    assert said["judge strict"] == "'no, it is bad'"
    assert said["exact"].startswith("repeats row ") and "another card by post" in said["exact"]
    assert said["holdout"].startswith("100% of msg-")


def test_a_rule_may_be_named_as_it_is_shown(files: RunFiles) -> None:
    for rule, shown in (("near", "near (duplicate)"), ("holdout", "holdout (contaminated)")):
        assert sample_lost_rows(files, rule=shown) == sample_lost_rows(files, rule=rule)
    with pytest.raises(RecipeError, match=r"with the rule 'near \(contaminated\)'"):
        sample_lost_rows(files, rule="near (contaminated)")


@pytest.mark.parametrize(
    ("wanted", "remedy"),
    [
        ({"rule": "long enogh"}, "did you mean 'long enough'?"),
        ({"stage": "generate", "rule": SHORT_RULE}, "there are: empty, judge strict, truncated"),
        ({"prompt": "wirte"}, "did you mean 'write'?"),
        ({"stage": "train"}, "there are: check_documents, collect, generate, validate"),
    ],
)
def test_a_filter_that_no_row_passes_says_what_there_is(files: RunFiles, wanted: dict[str, str], remedy: str) -> None:
    with pytest.raises(RecipeError, match="set no row aside with the") as caught:
        sample_lost_rows(files, **wanted)  # type: ignore[arg-type]
    assert remedy in caught.value.remedy


def test_the_commands_print_tables_or_one_json_object(last_night: LastNight) -> None:
    home = last_night[0].home.root
    done = retune(home, "quarantine", "list", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["rows"]["generate"] == {"quarantined": 3}
    shown = retune(home, "quarantine", "list").stdout
    assert "holdout (contaminated)" in shown and "near (duplicate)" in shown and "exact (duplicate)" in shown
    shown = retune(home, "quarantine", "sample", "--rule", "judge strict").stdout
    assert "this one is bad" in shown and "1 of 1 rows" in shown


def test_what_a_model_wrote_is_no_markup(tmp_path: Path) -> None:
    files = broken_twice(tmp_path / "evil")
    path = files.folders["validate"] / "quarantine.parquet"
    row = {**pq.read_table(path).to_pylist()[0], "raw": "[bold]x[/bold] \x1b[31m \u202e"}
    pq.write_table(pa.Table.from_pylist([row], schema=QUARANTINE), path)
    record = RunRecord("r", "mine", "failed", 0.0, str(tmp_path / "runs" / "r"))
    record.evidence = {"validate": str(files.folders["validate"])}
    write_json(tmp_path / "runs" / "r" / RECORD, vars(record))
    shown = retune(tmp_path, "quarantine", "sample").stdout
    assert "[bold]x[/bold] \\x1b[31m \\u202e" in shown
