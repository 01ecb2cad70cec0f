"""What is wrong with a contract is found before anything runs, and said with file, line and remedy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tasks.core.errors import ContractError
from tasks.validate.contract import contract_columns, read_contract
from tests.unit.validate.tables import FIELDS, expectation, write_contract

COLUMNS = contract_columns(FIELDS)
MESSAGE: dict[str, Any] = {"name": "message"}


def rules_of(path: Path) -> dict[str, dict[str, Any]]:
    return {rule.name: dict(rule.arguments) for rule in read_contract(path, COLUMNS).rules}


def line_of(error: ContractError) -> int:
    return int(error.where.rsplit(":", 1)[1])


def test_schema_properties_become_rules(tmp_path: Path) -> None:
    options = {"minLength": 3, "maxLength": 9, "pattern": "^a"}
    message = {**MESSAGE, "logicalType": "string", "required": True, "unique": True, "logicalTypeOptions": options}
    seed = {"name": "seed", "logicalType": "integer", "logicalTypeOptions": {"exclusiveMinimum": 0, "maximum": 5}}
    queue = {"name": "queue", "enum": [{"value": "cards"}, {"value": "bills"}]}
    assert rules_of(write_contract(tmp_path / "c.yaml", [message, seed, queue])) == {
        "message.expect_column_values_to_not_be_null": {"column": "message"},
        "message.expect_column_values_to_be_unique": {"column": "message"},
        "message.expect_column_value_lengths_to_be_between": {"column": "message", "min_value": 3, "max_value": 9},
        "message.expect_column_values_to_match_regex": {"column": "message", "regex": "^a"},
        "seed.expect_column_values_to_be_between": {"column": "seed", "max_value": 5},
        "seed.expect_column_values_to_be_between (2)": {"column": "seed", "min_value": 0, "strict_min": True},
        "queue.expect_column_values_to_be_in_set": {"column": "queue", "value_set": ["cards", "bills"]},
    }


def test_a_quality_rule_of_a_property_is_about_its_column_and_keeps_its_name_and_severity(tmp_path: Path) -> None:
    rule = expectation("ExpectColumnValuesToMatchRegex", {"regex": "a"}, name="has an a", severity="warning")
    (found,) = read_contract(write_contract(tmp_path / "c.yaml", [{**MESSAGE, "quality": [rule]}]), COLUMNS).rules
    assert (found.name, found.severity, found.expectation, found.columns) == (
        "has an a", "warning", "expect_column_values_to_match_regex", ("message",),
    )  # fmt: skip


def test_several_primary_keys_are_unique_together(tmp_path: Path) -> None:
    keys = [{"name": name, "primaryKey": True} for name in ("row_id", "prompt")]
    rules = rules_of(write_contract(tmp_path / "c.yaml", keys))
    assert rules["row_id.expect_compound_columns_to_be_unique"] == {"column_list": ["row_id", "prompt"]}
    assert "row_id.expect_column_values_to_be_unique" not in rules


def test_prose_rules_are_not_run(tmp_path: Path) -> None:
    prose = {"type": "text", "description": "Messages sound like a customer's."}
    assert rules_of(write_contract(tmp_path / "c.yaml", [{**MESSAGE, "quality": [prose]}])) == {}


def test_a_missing_file_names_the_contracts_that_exist(tmp_path: Path) -> None:
    write_contract(tmp_path / "rows.odcs.yaml", [MESSAGE])
    with pytest.raises(ContractError, match=r"rows\.odcs\.yaml"):
        read_contract(tmp_path / "row.odcs.yaml", COLUMNS)


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("a: 1\nb: [1,\n", "no YAML", 3),
        ("- 1\n", "no mapping", 1),
        ("", "no mapping", 1),
        ("apiVersion: v3.1.0\nkind: Contract\nid: x\nversion: 1.0.0\nstatus: active\n", "kind", 2),
        ("apiVersion: v3.1.0\nkind: DataContract\nid: x\nversion: 1.0.0\nstatus: active\n", "0 tables", 1),
    ],
)
def test_what_is_no_contract_is_refused_with_its_line(tmp_path: Path, text: str, message: str, line: int) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ContractError, match=message) as caught:
        read_contract(path, COLUMNS)
    assert line_of(caught.value) == line


@pytest.mark.parametrize(
    ("properties", "message"),
    [
        ([{"name": "mesage"}], r"'mesage'(.|\n)*did you mean message\?(.|\n)*columns: message, queue, row_id"),
        ([{**MESSAGE, "quality": [expectation("expect_column_to_exist", {"column": "qeue"})]}], "'qeue'"),
        ([{**MESSAGE, "quality": [expectation("expect_column_pair_values_to_be_equal",
                                              {"column_A": "queue", "column_B": "nope"})]}], "'nope'"),
        ([{**MESSAGE, "quality": [expectation("expect_compound_columns_to_be_unique",
                                              {"column_list": ["queue", "no"]})]}], "'no'"),
        ([{**MESSAGE, "quality": [expectation("expect_colum_values_to_be_uniqe")]}],
         "did you mean expect_column_values_to_be_unique"),
        ([{**MESSAGE, "quality": [expectation("expect_column_values_to_match_regex", {"regx": "a"})]}],
         r"unknown argument 'regx'; it takes column, mostly, .*regex"),
        ([{**MESSAGE, "quality": [expectation("expect_column_values_to_be_in_set")]}], "'value_set' is missing"),
        ([{**MESSAGE, "quality": [expectation("expect_column_values_to_not_be_null", {"mostly": 2})]}], "mostly"),
        ([{**MESSAGE, "quality": [expectation("expect_column_values_to_match_regex", {"regex": "("})]}],
         "no regular expression"),
        ([{**MESSAGE, "quality": [expectation("unexpected_rows_expectation", {"unexpected_rows_query": "x"})]}],
         "needs an SQL database"),
        ([{**MESSAGE, "quality": [expectation("expect_column_values_to_be_increasing", {"strict": 3})]}], "strict"),
        ([{**MESSAGE, "quality": [expectation("expect_column_to_exist", severity="loud")]}], "severity 'loud'"),
        ([{**MESSAGE, "quality": [{"type": "library", "metric": "nullValues", "mustBe": 0}]}], "type: library"),
        ([{**MESSAGE, "quality": [{"type": "sql", "query": "SELECT 1", "mustBe": 0}]}], "type: sql"),
        ([{**MESSAGE, "quality": [{"type": "custom", "engine": "soda", "implementation": "x"}]}], "engine: soda"),
        ([{**MESSAGE, "quality": [{"type": "custom", "engine": "greatExpectations", "implementation": {"a": 1}}]}],
         "must have a type"),
        ([{**MESSAGE, "logicalType": "string", "logicalTypeOptions": {"format": "email"}}], "Options.format"),
        ([{**MESSAGE, "requird": True}], "requird"),
    ],
)  # fmt: skip
def test_a_rule_that_cannot_work_is_refused(tmp_path: Path, properties: list[Any], message: str) -> None:
    path = write_contract(tmp_path / "c.yaml", properties)
    with pytest.raises(ContractError, match=message) as caught:
        read_contract(path, COLUMNS)
    assert caught.value.where.startswith(f"{path}:")
    assert line_of(caught.value) > 6, "the line is inside the table, not in the head"
    assert caught.value.remedy


def test_the_line_is_the_rules_own(tmp_path: Path) -> None:
    path = write_contract(tmp_path / "c.yaml", [MESSAGE, {"name": "queue"}, {"name": "sentiment"}])
    with pytest.raises(ContractError) as caught:
        read_contract(path, COLUMNS)
    assert path.read_text().splitlines()[line_of(caught.value) - 1].strip() == "- name: sentiment"


def test_a_field_named_like_a_lineage_column_is_refused() -> None:
    with pytest.raises(ContractError, match="'prompt'"):
        contract_columns(("message", "prompt"))


def test_checking_a_contract_does_not_import_great_expectations(tmp_path: Path) -> None:
    rule = expectation("expect_column_values_to_match_regex", {"regex": "a"})
    path = write_contract(tmp_path / "c.yaml", [{**MESSAGE, "required": True, "quality": [rule]}])
    code = (
        "import sys; from pathlib import Path; from tasks.validate.contract import check_contract;"
        f"check_contract(Path({str(path)!r}), ['message']); print('great_expectations' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
