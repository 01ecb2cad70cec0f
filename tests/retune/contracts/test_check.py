"""``retune contracts check``: a verdict on any file, with the rows that break each rule and where they stand."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import yaml

from retune.contracts.check import check_file, write_broken
from retune.contracts.check_report import CheckReport, Result
from tasks.core.errors import ContractError, SourceError
from tasks.core.home import PROJECT_ROOT
from tests.retune.command import retune
from tests.unit.validate.tables import Row, expectation, write_contract

CHAT = PROJECT_ROOT / "data_contracts" / "chat_examples.odcs.yaml"
TEXT = {"name": "text", "logicalType": "string", "required": True}
STARS = {"name": "stars", "logicalType": "integer", "logicalTypeOptions": {"minimum": 1, "maximum": 5}}


@pytest.fixture
def contract(tmp_path: Path) -> Path:
    words = expectation("expect_column_values_to_match_regex", {"regex": " "}, name="two words", severity="warning")
    some = expectation("expect_table_row_count_to_be_between", {"min_value": 2}, name="two rows")
    return write_contract(tmp_path / "reviews.odcs.yaml", [{**TEXT, "quality": [words]}, STARS], [some])


def written(path: Path, *rows: Any) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def failing(report: CheckReport) -> dict[str, list[int]]:
    """The rules that do not hold, each with the lines of the rows that break it."""
    return {result.rule: [row.line for row in result.rows] for result in report.results if not result.holds}


def result_of(report: CheckReport, rule: str) -> Result:
    return next(result for result in report.results if result.rule == rule)


GOOD: list[Row] = [{"text": "very good", "stars": 5}, {"text": "so 🎉 so", "stars": 3}, {"text": "很 好", "stars": 1}]


@pytest.mark.parametrize("name", ["r.csv", "r.tsv", "r.json", "r.jsonl", "r.parquet"])
def test_good_rows_keep_the_contract_in_every_format(tmp_path: Path, contract: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(GOOD), path)
    elif name.endswith("sv"):
        mark = "," if name == "r.csv" else "\t"
        written(path, mark.join(["text", "stars"]), *(mark.join([row["text"], str(row["stars"])]) for row in GOOD))
    else:
        written(path, *([GOOD] if name == "r.json" else GOOD))
    report = check_file(path, contract).report
    assert failing(report) == {} and report.is_kept and report.rows == 3 and report.unchecked == {}
    assert report.verdict == "The contract is kept"


def test_each_broken_row_is_named_with_its_line_and_its_value(tmp_path: Path, contract: Path) -> None:
    path = written(tmp_path / "r.csv", "text,stars", "good one,7", "fine,2", ",3", '"two\nlines",0')
    checked = check_file(path, contract)
    assert failing(checked.report) == {
        "stars.expect_column_values_to_be_between": [2, 5],
        "text.expect_column_values_to_not_be_null": [4],
        "two words": [3, 5],
    }
    assert [row.value for row in result_of(checked.report, "two words").rows] == ["fine", "two\\nlines"]
    assert checked.report.broken_rows == {1, 3, 4}, "a warning takes no row"
    assert checked.report.verdict == "The contract is broken by 2 of 4 rules; 3 of 4 rows would be quarantined"


def test_values_of_another_type_are_a_fault_of_their_own(tmp_path: Path, contract: Path) -> None:
    path = written(
        tmp_path / "r.jsonl",
        {"text": "good one", "stars": "five"},
        {"text": 12, "stars": 2.5},
        {"text": "good one", "stars": True},
        {"text": ["a", "b"], "stars": 3.0},
        {"text": "good one", "stars": None},
    )
    report = check_file(path, contract).report
    assert failing(report) == {"text (logicalType: string)": [2, 4], "stars (logicalType: integer)": [1, 2, 3]}
    assert "not string, but integer 12" in result_of(report, "text (logicalType: string)").observed


def test_numbers_are_read_from_files_that_know_only_text(tmp_path: Path, contract: Path) -> None:
    path = written(tmp_path / "r.csv", "text,stars", "so good,4", "so good,four", "so good,1e400", "so good,nan")
    assert failing(check_file(path, contract).report) == {"stars (logicalType: integer)": [3, 4, 5]}


def test_mixed_types_in_a_column_without_a_type_are_found(tmp_path: Path) -> None:
    untyped = write_contract(tmp_path / "c.odcs.yaml", [{"name": "answer", "required": True}])
    path = written(
        tmp_path / "r.jsonl", {"answer": "a"}, {"answer": 2}, {"answer": "c"}, {"answer": 1.5}, {"answer": "e"}
    )
    assert failing(check_file(path, untyped).report) == {"answer (values of one type)": [2, 4]}


def test_rows_that_cannot_be_read_are_shown_and_the_others_are_checked(tmp_path: Path, contract: Path) -> None:
    path = written(
        tmp_path / "r.jsonl",
        {"text": "good one", "stars": 5},
        '{"text": "bro',
        '{"text": "good one", "stars": NaN}',
        "[1, 2]",
        {"text": "", "stars": 9},
    )
    report = check_file(path, contract).report
    assert failing(report) == {
        "(readable rows)": [2, 3, 4],
        "stars.expect_column_values_to_be_between": [5],
        "two words": [5],
    }
    assert "NaN" in result_of(report, "(readable rows)").rows[1].value
    assert report.rows == 5


def test_where_no_row_can_be_read_nothing_is_said_of_columns_and_the_table_is_judged_as_it_was_seen(
    tmp_path: Path, contract: Path
) -> None:
    (tmp_path / "r.csv").write_bytes("text,stars\ncafé noir,1\nthé vert,2\nça va,3\n".encode("latin-1"))
    report = check_file(tmp_path / "r.csv", contract).report
    assert failing(report) == {"(readable rows)": [2, 3, 4], "two rows": []}
    assert result_of(report, "(readable rows)").observed == "3 of 3 rows cannot be read"
    assert result_of(report, "two rows").observed == "observed: 0"
    (unchecked,) = report.unchecked.items()
    assert unchecked[0] == "no row could be read" and "text.expect_column_values_to_not_be_null" in unchecked[1]
    assert len(report.broken_rows) == report.rows == 3


def test_how_many_rows_the_rules_saw_is_said_once_where_some_cannot_be_read(tmp_path: Path, contract: Path) -> None:
    path = written(tmp_path / "r.csv", "text,stars", "good one,5", "good one,4,3", "good one,1")
    report = check_file(path, contract).report
    said = [result.observed for result in report.results if "saw" in result.observed]
    assert said == ["1 of 3 rows cannot be read; the rules below saw the other 2"]
    assert result_of(report, "two rows").observed == "observed: 2"


@pytest.mark.parametrize(("name", "mark"), [("r.csv", ";"), ("r.csv", "\t"), ("r.tsv", ","), ("r.csv", "|")])
def test_another_separator_than_the_ending_says_is_found_where_rows_agree_and_else_named_once(
    tmp_path: Path, contract: Path, name: str, mark: str
) -> None:
    header = f"text{mark}stars"
    read = check_file(written(tmp_path / name, header, f"so good{mark}3"), contract).report
    assert "text (column)" not in {result.rule for result in read.results}
    report = check_file(written(tmp_path / name, header, f"so{mark} good{mark}3"), contract).report
    found = result_of(report, "(separator)").observed
    assert f"separated by {mark!r}" in found and found.endswith("save it as CSV with commas or TSV with tabs")
    assert not report.is_kept
    columns = [result.observed for result in report.results if "(column)" in result.rule]
    assert columns in ([], ["the file has no column 'text'", "the file has no column 'stars'"])


@pytest.mark.parametrize("store", ["jsonl", "csv", "parquet", "decimal"])
def test_large_integers_beside_a_missing_one_stay_exact(tmp_path: Path, store: str) -> None:
    """A double, in which pandas keeps a column with a gap, does not hold 2^53 + 1."""
    first = 2**53
    table = pa.table({"kind": list("abcde"), "id": [first, first + 1, None, first + 2, first + 2]})
    path = tmp_path / f"r.{'parquet' if store == 'decimal' else store}"
    if store == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()), encoding="utf-8")
    elif store == "csv":
        pa.csv.write_csv(table, path)
    else:
        kind = pa.decimal128(20, 0) if store == "decimal" else pa.int64()
        pq.write_table(table.set_column(1, "id", table["id"].cast(kind)), path)
    column = {"name": "id", "logicalType": "integer", "unique": True, "logicalTypeOptions": {"maximum": first + 1}}
    contract = write_contract(tmp_path / "c.odcs.yaml", [column])
    lines = [4, 5] if store != "csv" else [5, 6]
    found = {name: rows for name, rows in failing(check_file(path, contract).report).items() if rows}
    assert found == {"id.expect_column_values_to_be_unique": lines, "id.expect_column_values_to_be_between": lines}


def test_decimals_beyond_a_double_stay_apart(tmp_path: Path) -> None:
    prices = pa.array([Decimal("12345678901234567.89"), Decimal("12345678901234567.88"), None], pa.decimal128(20, 2))
    pq.write_table(pa.table({"price": prices}), tmp_path / "r.parquet")
    options = {"maximum": 12345678901234568}
    price = {"name": "price", "logicalType": "number", "unique": True, "logicalTypeOptions": options}
    contract = write_contract(tmp_path / "c.odcs.yaml", [price])
    assert check_file(tmp_path / "r.parquet", contract).report.is_kept


def test_one_column_with_a_name_like_a_list_is_no_fault_where_the_contract_wants_it(tmp_path: Path) -> None:
    contract = write_contract(tmp_path / "c.odcs.yaml", [{**TEXT, "name": "a;b"}])
    assert check_file(written(tmp_path / "r.csv", "a;b", "x"), contract).report.is_kept


def test_missing_numbers_and_infinities_in_parquet_do_not_pass_as_numbers(tmp_path: Path, contract: Path) -> None:
    stars = pa.array([1.0, float("nan"), float("inf"), 2.0])
    pq.write_table(pa.table({"text": ["a b"] * 4, "stars": stars}), tmp_path / "r.parquet")
    required = write_contract(tmp_path / "c.odcs.yaml", [{**STARS, "required": True}])
    report = check_file(tmp_path / "r.parquet", required).report
    assert failing(report) == {"(readable rows)": [3], "stars.expect_column_values_to_not_be_null": [2]}


def test_a_missing_column_is_named_with_the_nearest_and_the_rest_is_checked(tmp_path: Path, contract: Path) -> None:
    path = written(tmp_path / "r.csv", "txt,stars", "so good,9", "so good,1")
    report = check_file(path, contract).report
    assert failing(report) == {"text (column)": [], "stars.expect_column_values_to_be_between": [2]}
    assert "did you mean 'txt'?" in result_of(report, "text (column)").observed
    assert report.unchecked["the file has no column text"] == ("text.expect_column_values_to_not_be_null", "two words")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("r.csv", b"", "holds no rows"),
        ("r.csv", b"text,stars\n", "holds no rows"),
        ("r.json", b"[]", "holds no rows"),
        ("r.jsonl", b"{", "no readable row"),
        ("r.parquet", b"PAR1", "cannot be read"),
        ("r.csv.gz", b"text,stars\n", "gzip|packed|unpack"),
        ("r.docx", b"x", "format"),
    ],
)
def test_a_file_without_rows_or_no_table_at_all_is_a_clear_error(
    tmp_path: Path, contract: Path, name: str, content: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=f"(?i){said}"):
        check_file(tmp_path / name, contract)
    with pytest.raises(SourceError, match="does not exist"):
        check_file(tmp_path / "nowhere.csv", contract)
    with pytest.raises(SourceError, match="It is a folder") as caught:
        check_file(tmp_path, contract)
    assert (caught.value.where, caught.value.remedy) == (str(tmp_path), "name a file in it")


def test_a_contract_that_is_no_good_is_an_error_with_its_line(tmp_path: Path) -> None:
    path = written(tmp_path / "r.csv", "text", "a")
    bad = write_contract(tmp_path / "c.odcs.yaml", [{**TEXT, "quality": [expectation("expect_nothing")]}])
    with pytest.raises(ContractError, match="expect_nothing") as caught:
        check_file(path, bad)
    assert caught.value.where.startswith(f"{bad}:")


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [{"role": "user", "content": "hi there"}, {"role": "assistant", "content": "hello"}]},
        {"conversations": [{"from": "human", "value": "hi there"}, {"from": "gpt", "value": "hello"}]},
        {"instruction": "hi there", "input": "", "output": "hello"},
        {"prompt": "hi there", "completion": "hello"},
    ],
)
def test_conversations_of_every_form_can_be_held_against_a_contract_for_chats(tmp_path: Path, row: Row) -> None:
    report = check_file(written(tmp_path / "r.jsonl", row), CHAT).report
    assert failing(report) == {}
    assert result_of(report, "no chat-control tokens from the assistant").holds
    assert all(why.startswith("the file has no column") for why in report.unchecked), (
        "a night names rows, a file need not"
    )


def test_conversations_are_judged_as_they_stand_in_the_file(tmp_path: Path) -> None:
    def row(*turns: tuple[str, str]) -> Row:
        return {"messages": [{"role": role, "content": content} for role, content in turns]}

    path = written(
        tmp_path / "r.jsonl",
        row(("user", "hi there"), ("assistant", "hello")),
        row(("user", "hi there")),
        row(("user", "<|im_end|> hi"), ("assistant", "hello")),
        {"messages": [{"role": "user", "content": 5}]},
    )
    assert failing(check_file(path, CHAT).report) == {
        "(readable rows)": [4],
        "a sound conversation": [2],
        "no chat-control tokens from the user": [3],
    }


def test_a_recipe_maps_columns_to_fields_and_gives_its_tokenizer(tmp_path: Path) -> None:
    contract = PROJECT_ROOT / "data_contracts" / "generated_rows.odcs.yaml"
    long = " ".join(f"word{number}" for number in range(40))
    path = written(
        tmp_path / "r.csv", "message,queue,topic", "please help me out,cards,a topic", f"{long},bills,a topic"
    )
    tokens = "short enough to be trained on as a whole"
    without = check_file(path, contract).report
    assert [rules for why, rules in without.unchecked.items() if "recipe" in why] == [(tokens,)]
    report = check_file(path, contract, "embedded").report
    assert failing(report)[tokens] == [3]
    assert not any("recipe" in why for why in report.unchecked)


def test_a_source_of_a_recipe_is_read_as_the_recipe_maps_it(tmp_path: Path) -> None:
    recipe = yaml.safe_load((PROJECT_ROOT / "deployments" / "recipes" / "embedded.yaml").read_text())
    recipe["model"]["path"] = str(PROJECT_ROOT / "seedling" / "model")
    recipe["collect"] |= {
        "sources": [{"path": "mine.csv"}],
        "columns": {"message": "text", "queue": "label", "topic": "subject"},
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    rows = ("please help me with this,cards,a topic", "no no,cards,a topic", "please help me now,hotels,a topic")
    path = written(tmp_path / "mine.csv", "text,label,subject", *rows)
    contract = PROJECT_ROOT / "data_contracts" / "generated_rows.odcs.yaml"
    report = check_file(path, contract, str(tmp_path / "mine.yaml")).report
    assert report.reading == "mapped as recipe embedded does"
    broken = failing(report)
    assert broken["(readable rows)"] == [4], "the recipe's labels are the only answers"
    assert broken["message.expect_column_value_lengths_to_be_between"] == [3]


def test_what_mostly_allows_does_not_break_the_contract(tmp_path: Path) -> None:
    some = expectation("expect_column_values_to_match_regex", {"regex": "a", "mostly": 0.5}, name="an a")
    contract = write_contract(tmp_path / "c.odcs.yaml", [{**TEXT, "quality": [some]}])
    report = check_file(written(tmp_path / "r.csv", "text", "a", "a", "b"), contract).report
    assert report.is_kept and report.verdict == "The contract is kept; 1 of 3 rows would be quarantined"
    assert result_of(report, "an a").observed == "1 of 3 rows break it, which mostly: 0.5 allows"


def test_the_rows_that_a_critical_rule_takes_are_written_with_all_that_they_break(
    tmp_path: Path, contract: Path
) -> None:
    path = written(tmp_path / "r.csv", "text,stars,id", "good one,3,a", "bad,9,b", "one,1,c", "x,y,z,1")
    write_broken(check_file(path, contract), tmp_path / "q.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "q.jsonl").read_text().splitlines()]
    assert [(row["row"], row["line"]) for row in rows] == [(2, 3), (4, 5)]
    assert rows[0]["values"] == {"text": "bad", "stars": "9", "id": "b"}
    assert {breach["rule"]: breach["value"] for breach in rows[0]["breaches"]} == {
        "stars.expect_column_values_to_be_between": "9",
        "two words": "bad",
    }
    assert rows[1]["raw"] == "x,y,z,1"


def test_the_command_prints_the_verdict_and_ends_with_1_where_it_is_broken(tmp_path: Path, contract: Path) -> None:
    path = written(tmp_path / "r.csv", "text,stars", "a [b]\x1b[31m,9", "good one,3")
    done = retune(tmp_path / "home", "contracts", "check", str(path), "--contract", str(contract))
    assert (done.returncode, done.stderr) == (1, "")
    assert "line 2 (row 1): 9" in done.stdout and "\x1b" not in done.stdout
    assert done.stdout.rstrip().endswith("would be quarantined")
    found = retune(tmp_path / "home", "contracts", "check", str(path), "--contract", str(contract), "--json")
    assert found.returncode == 1
    data = json.loads(found.stdout)
    assert (data["verdict"], data["rows"], data["broken_rows"]) == ("broken", 2, 1)
    assert [one["broken"] for one in data["results"] if not one["holds"]] == [1]
