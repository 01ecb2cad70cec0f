"""What is wrong with a contract is found before anything runs, and said with file, line and remedy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tasks.core.errors import ContractError
from tasks.validate.contracts.columns import contract_columns, document_columns
from tasks.validate.contracts.contract import examine_contract, read_contract
from tasks.validate.contracts.rule import ContractContext
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
        "seed.expect_column_values_to_be_between": {
            "column": "seed",
            "max_value": 5,
            "min_value": 0,
            "strict_min": True,
        },
        "queue.expect_column_values_to_be_in_set": {"column": "queue", "value_set": ["cards", "bills"]},
    }


def test_two_bounds_of_one_kind_are_two_rules(tmp_path: Path) -> None:
    options = {"minimum": 1, "exclusiveMinimum": 2, "maximum": 9}
    seed = {"name": "seed", "logicalType": "integer", "logicalTypeOptions": options}
    assert rules_of(write_contract(tmp_path / "c.yaml", [seed])) == {
        "seed.expect_column_values_to_be_between": {"column": "seed", "min_value": 1, "max_value": 9},
        "seed.expect_column_values_to_be_between (2)": {"column": "seed", "min_value": 2, "strict_min": True},
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
        ("a: 1\nb: [1,\n", "not valid YAML", 3),
        ("- 1\n", "not a mapping", 1),
        ("", "not a mapping", 1),
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
        ([{"name": "mesage"}], r"'mesage'(.|\n)*did you mean 'message'\?(.|\n)*columns: message, queue, row_id"),
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
         "not a valid regular expression"),
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


def test_all_that_is_wrong_is_found_at_once(tmp_path: Path) -> None:
    rules = [
        expectation("expect_column_values_to_match_regex", {"regex": "(", "mostly": 7}),
        expectation("expect_colum_values_to_be_unique", severity="loud"),
    ]
    path = write_contract(tmp_path / "c.yaml", [{"name": "mesage"}, {**MESSAGE, "quality": rules}, {"name": "queue"}])
    contract, findings = examine_contract(path, COLUMNS)
    assert contract is None
    lines = path.read_text().splitlines()
    assert [(finding.code, lines[finding.line - 1].strip()) for finding in findings] == [
        ("unknown-column", "- name: mesage"),
        ("regex", "regex: ("),
        ("bad-range", "mostly: 7"),
        ("severity", "severity: loud"),
        ("unknown-expectation", "type: expect_colum_values_to_be_unique"),
    ]


def test_rules_say_whether_they_name_rows_or_judge_the_table(tmp_path: Path) -> None:
    quality = [
        expectation("expect_table_row_count_to_be_between", {"min_value": 1}, name="some rows"),
        expectation("expect_column_mean_to_be_between", {"column": "seed", "min_value": 0}, name="mean"),
        expectation("expect_column_label_shares_to_be_between", {"column": "queue", "max_share": 0.5}, name="labels"),
        expectation("expect_column_values_to_not_be_refusals", {"column": "message", "mostly": 0.9}, name="refusals"),
    ]
    contract = read_contract(write_contract(tmp_path / "c.yaml", [{**MESSAGE, "required": True}], quality), COLUMNS)
    assert [rule.name for rule in contract.on_rows.rules] == ["message.expect_column_values_to_not_be_null", "refusals"]
    assert [rule.name for rule in contract.on_table.rules] == ["some rows", "mean", "labels"]
    assert {rule.level for rule in contract.on_table.rules} == {"table"}
    assert (contract.name, contract.version, contract.on_rows.version) == ("rows", "1.0.0", "1.0.0")


def test_a_contract_of_several_tables_is_read_table_by_table(tmp_path: Path) -> None:
    drift = {"name": "label_distance", "logicalType": "number", "logicalTypeOptions": {"maximum": 0.2}}
    path = write_contract(tmp_path / "c.yaml", [{**MESSAGE, "required": True}], drift=[drift])
    assert [rule.columns for rule in read_contract(path, COLUMNS).rules] == [("message",)]
    measures = {"label_distance": "number"}
    assert [dict(rule.arguments) for rule in read_contract(path, measures, table="drift").rules] == [
        {"column": "label_distance", "max_value": 0.2}
    ]
    with pytest.raises(ContractError, match=r"no table 'drifts'(.|\n)*rows, drift"):
        read_contract(path, measures, table="drifts")


def test_what_a_recipe_knows_is_filled_in_where_the_contract_leaves_it_out(tmp_path: Path) -> None:
    rules = [
        expectation("expect_column_token_counts_to_be_between", {"max_value": 9}),
        expectation("expect_column_token_counts_to_be_between", {"min_value": 1, "tokenizer": "own"}),
        expectation("expect_column_values_to_not_hold_control_tokens"),
    ]
    path = write_contract(tmp_path / "c.yaml", [{**MESSAGE, "quality": rules}])
    contract = read_contract(path, COLUMNS, context=ContractContext("model", ("<|end|>",)))
    assert [dict(rule.arguments) for rule in contract.rules] == [
        {"column": "message", "max_value": 9, "tokenizer": "model"},
        {"column": "message", "min_value": 1, "tokenizer": "own"},
        {"column": "message", "tokens": ["<|end|>"]},
    ]
    with pytest.raises(ContractError, match=r"'tokenizer' is missing(.|\n)*a recipe gives it"):
        read_contract(path, COLUMNS)


@pytest.mark.parametrize(
    ("name", "logical", "is_sound"),
    [
        ("message", "string", True),
        ("message", "integer", False),
        ("message", "date", False),
        ("message", "object", True),
        ("seed", "integer", True),
        ("seed", "number", True),
        ("seed", "string", False),
        ("messages", "array", True),
        ("messages", "string", True),
        ("messages", "number", False),
    ],
)
def test_a_logical_type_that_rows_are_not_stored_as_is_refused(
    tmp_path: Path, name: str, logical: str, is_sound: bool
) -> None:
    path = write_contract(tmp_path / "c.yaml", [{"name": name, "logicalType": logical}])
    contract, findings = examine_contract(path, COLUMNS)
    assert [finding.code for finding in findings] == ([] if is_sound else ["column-type"])
    if contract:
        assert contract.types == {name: logical}
    unknown, _ = examine_contract(path, list(COLUMNS))
    assert unknown is not None, "where the stored types are not known, nothing is refused for them"


def test_a_rule_says_all_columns_that_it_needs(tmp_path: Path) -> None:
    quality = [
        expectation("expect_column_values_to_not_be_null",
                    {"column": "message", "row_condition": 'origin == "generated"', "condition_parser": "pandas"}),
        expectation("expect_compound_columns_to_be_unique", {"column_list": ["queue", "prompt"]}),
        expectation("expect_table_columns_to_match_set", {"column_set": ["queue"], "exact_match": False}),
    ]  # fmt: skip
    contract = read_contract(write_contract(tmp_path / "c.yaml", [MESSAGE], quality), COLUMNS)
    assert [rule.reads for rule in contract.rules[:2]] == [("message", "origin"), ("queue", "prompt")]
    assert set(contract.rules[2].reads) == set(COLUMNS), "it judges the table's columns, so it needs them all"


def test_the_columns_of_documents_are_their_own(tmp_path: Path) -> None:
    columns = document_columns(("topic",))
    read_contract(
        write_contract(tmp_path / "c.yaml", [{"name": name} for name in ("licence", "line", "topic")]), columns
    )
    with pytest.raises(ContractError, match="'prompt'"):
        read_contract(write_contract(tmp_path / "c.yaml", [{"name": "prompt"}]), columns)
    with pytest.raises(ContractError, match="'licence'"):
        document_columns(("licence",))


@pytest.mark.parametrize(
    ("properties", "code", "is_error"),
    [
        ([{**MESSAGE, "unique": True, "quality": [expectation("expect_column_values_to_be_unique")]}],
         "same-rule", False),
        ([{**MESSAGE, "required": True,
           "quality": [expectation("expect_column_values_to_not_be_null", {"mostly": 0.9})]}], "redundant", False),
        ([{"name": "queue", "enum": [{"value": "a"}],
           "quality": [expectation("expect_column_values_to_be_in_set", {"value_set": ["a", "b"]})]}],
         "redundant", False),
        ([{"name": "queue", "enum": [{"value": "a"}, {"value": "b"}],
           "quality": [expectation("expect_column_values_to_be_in_set", {"value_set": ["c"]})]}], "never-holds", True),
        ([{"name": "queue", "enum": [{"value": "cards"}],
           "quality": [expectation("expect_column_distinct_values_to_contain_set", {"value_set": ["crads"]})]}],
         "never-holds", True),
        ([{"name": "queue", "enum": [{"value": "cards"}], "logicalType": "string",
           "logicalTypeOptions": {"maxLength": 3}}], "never-holds", True),
        ([{"name": "queue", "enum": [{"value": "cards"}], "logicalType": "string",
           "logicalTypeOptions": {"pattern": "^[A-Z]"}}], "never-holds", True),
        ([{**MESSAGE, "required": True, "quality": [expectation("expect_column_values_to_be_null")]}],
         "never-holds", True),
        ([MESSAGE, MESSAGE], "duplicate-column", True),
    ],
)  # fmt: skip
def test_rules_that_do_not_go_together_are_found(
    tmp_path: Path, properties: list[Any], code: str, is_error: bool
) -> None:
    contract, findings = examine_contract(write_contract(tmp_path / "c.yaml", properties), COLUMNS)
    assert [(finding.code, finding.severity == "error") for finding in findings] == [(code, is_error)]
    assert (contract is None) is is_error


def test_stricter_rules_of_a_lower_severity_are_no_repetition(tmp_path: Path) -> None:
    bounded = {**MESSAGE, "logicalType": "string", "logicalTypeOptions": {"maxLength": 300}}
    shorter = expectation("expect_column_value_lengths_to_be_between", {"max_value": 200}, severity="warning")
    patterns = [expectation("expect_column_values_to_match_regex", {"regex": regex}) for regex in ("a", "b")]
    path = write_contract(tmp_path / "c.yaml", [{**bounded, "quality": [shorter, *patterns]}])
    assert examine_contract(path, COLUMNS)[1] == []


def test_a_doubled_key_is_found_and_not_silently_dropped(tmp_path: Path) -> None:
    path = write_contract(tmp_path / "c.yaml", [MESSAGE])
    path.write_text(path.read_text() + "status: draft\n")
    _, findings = examine_contract(path, COLUMNS)
    assert [(finding.code, finding.line) for finding in findings] == [
        ("duplicate-key", len(path.read_text().splitlines()))
    ]


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
        "import sys; from pathlib import Path; from tasks.validate.contracts.contract import read_contract;"
        f"read_contract(Path({str(path)!r}), ['message']); print('great_expectations' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
