"""``retune contracts diff``: what a change breaks is told, and a version that does not say so fails."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from retune.contracts.compare import Change
from retune.contracts.diff import ContractDiff, diff_against, diff_files
from retune.contracts.direction import direction
from tasks.core.errors import ContractError
from tests.retune.command import retune
from tests.unit.validate.tables import expectation

Contract = dict[str, Any]


def contract() -> Contract:
    """A contract as data: columns id, message and queue, and some rules."""
    words = expectation("expect_column_values_to_match_regex", {"regex": "a b", "mostly": 0.9}, name="words")
    warned = expectation("expect_column_values_to_not_be_refusals", name="refusals", severity="warning")
    rows = expectation("expect_table_row_count_to_be_between", {"min_value": 5}, name="rows")
    return {
        "apiVersion": "v3.1.0",
        "kind": "DataContract",
        "id": "rows",
        "name": "rows",
        "version": "1.2.3",
        "status": "active",
        "description": {"purpose": "Tests."},
        "schema": [
            {
                "name": "rows",
                "properties": [
                    {"name": "id", "logicalType": "string", "required": True, "unique": True},
                    {"name": "message", "logicalType": "string", "logicalTypeOptions": {"minLength": 3, "maxLength": 9},
                     "quality": [words, warned]},
                    {"name": "queue", "logicalType": "string", "enum": [{"value": "cards"}, {"value": "bills"}]},
                ],
                "quality": [rows],
            }
        ],
    }  # fmt: skip


def column(of: Contract, name: str) -> Contract:
    return next(item for item in of["schema"][0]["properties"] if item["name"] == name)


def rule(of: Contract, name: str) -> Contract:
    rules = [*of["schema"][0]["quality"], *column(of, "message")["quality"]]
    return next(item for item in rules if item.get("name") == name)


def kwargs(of: Contract, name: str) -> Contract:
    found: Contract = rule(of, name)["implementation"]["kwargs"]
    return found


def compared(tmp_path: Path, change: Callable[[Contract], Any], version: str = "1.2.3") -> ContractDiff:
    old, new = contract(), contract()
    change(new)
    new["version"] = version
    paths = [tmp_path / "old.odcs.yaml", tmp_path / "new.odcs.yaml"]
    for path, data in zip(paths, (old, new), strict=True):
        path.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    return diff_files(*paths)


def concerned(changes: tuple[Change, ...]) -> list[str]:
    return [change.concerns for change in changes]


BREAKS_CONSUMERS: dict[str, Callable[[Contract], Any]] = {
    "the column 'queue' is gone": lambda of: of["schema"][0]["properties"].pop(),
    "the column 'queue' is renamed to 'label'": lambda of: column(of, "queue").update(name="label"),
    "the type string became integer": lambda of: column(of, "id").update(logicalType="integer"),
    "id: required is gone": lambda of: column(of, "id").pop("required"),
    "id: unique is gone": lambda of: column(of, "id").pop("unique"),
    "queue: the set of values is looser: value_set gained flights": lambda of: column(of, "queue")["enum"].append(
        {"value": "flights"}
    ),
    "queue: the set of values is gone": lambda of: column(of, "queue").pop("enum"),
    "message: length is looser: max_value 9 became 10": lambda of: column(of, "message")["logicalTypeOptions"].update(
        maxLength=10
    ),
    "message: length is looser: min_value 3 became (none)": lambda of: column(of, "message")["logicalTypeOptions"].pop(
        "minLength"
    ),
    "'words' is gone": lambda of: column(of, "message")["quality"].pop(0),
    "'words' is looser: mostly 0.9 became 0.8": lambda of: kwargs(of, "words").update(mostly=0.8),
    "'words' may let other rows through: regex a b became a c": lambda of: kwargs(of, "words").update(regex="a c"),
    "'words': the severity critical became warning": lambda of: rule(of, "words").update(severity="warning"),
    "'rows' is looser: min_value 5 became 4": lambda of: kwargs(of, "rows").update(min_value=4),
    "the id 'rows' became 'lines'": lambda of: of.update(id="lines"),
}
BREAKS_PRODUCERS: dict[str, Callable[[Contract], Any]] = {
    "the column 'topic' is new": lambda of: of["schema"][0]["properties"].append({"name": "topic"}),
    "message: required is new": lambda of: column(of, "message").update(required=True),
    "queue: the set of values is tighter: value_set lost cards": lambda of: column(of, "queue")["enum"].pop(0),
    "message: length is tighter: max_value 9 became 8": lambda of: column(of, "message")["logicalTypeOptions"].update(
        maxLength=8
    ),
    "'words' is tighter: mostly 0.9 became (none)": lambda of: kwargs(of, "words").pop("mostly"),
    "'refusals': the severity warning became critical": lambda of: rule(of, "refusals").update(severity="critical"),
    "'shouts' is new": lambda of: column(of, "message")["quality"].append(
        expectation("expect_column_values_to_not_match_regex", {"regex": "!"}, name="shouts")
    ),
    "the table 'drift' is new": lambda of: of["schema"].append(
        {
            "name": "drift",
            "properties": [{"name": "label_distance", "logicalType": "number", "logicalTypeOptions": {"maximum": 0.2}}],
        }
    ),
}
BREAKS_NOBODY: dict[str, Callable[[Contract], Any]] = {
    "description changed": lambda of: of.update(description={"purpose": "More tests."}),
    "team changed": lambda of: of.update(team={"name": "us"}),
    "message: description changed": lambda of: column(of, "message").update(description="What they say."),
    "the rule 'refusals' is gone (warning)": lambda of: column(of, "message")["quality"].pop(1),
    "the rule 'rows' is now called 'enough'": lambda of: rule(of, "rows").update(name="enough"),
    "is new (info)": lambda of: column(of, "message")["quality"].append(
        expectation("expect_column_values_to_not_match_regex", {"regex": "!"}, severity="info")
    ),
    "the description of columns or rules changed": lambda of: rule(of, "rows").update(description="Enough to look at."),
}


@pytest.mark.parametrize(
    ("concerns", "said", "change"),
    [
        (concerns, said, change)
        for concerns, changes in (
            ("consumers", BREAKS_CONSUMERS),
            ("producers", BREAKS_PRODUCERS),
            ("nobody", BREAKS_NOBODY),
        )
        for said, change in changes.items()
    ],
)
def test_each_change_is_said_with_whom_it_breaks(
    tmp_path: Path, concerns: str, said: str, change: Callable[[Contract], Any]
) -> None:
    found = compared(tmp_path, change)
    assert concerned(found.changes) == [concerns]
    assert said in found.changes[0].what
    due = {"consumers": "2.0.0", "producers": "1.3.0", "nobody": "1.2.4"}[concerns]
    assert found.due == due and f"{due} is due" in (found.problem or "")
    assert compared(tmp_path, change, due).problem is None
    assert compared(tmp_path, change, "3.0.0").problem is None, "a greater step is nobody's fault"


def test_nothing_is_due_where_nothing_changed(tmp_path: Path) -> None:
    found = compared(tmp_path, lambda of: None)
    assert (found.changes, found.due, found.problem) == ((), None, None)


def test_the_order_of_columns_and_rules_does_not_matter(tmp_path: Path) -> None:
    found = compared(tmp_path, lambda of: (of["schema"][0]["properties"].reverse(),
                                           column(of, "message")["quality"].reverse()))  # fmt: skip
    assert concerned(found.changes) in ([], ["nobody"])


def test_the_greatest_change_decides_and_comes_first(tmp_path: Path) -> None:
    def change(of: Contract) -> None:
        of["description"] = {"purpose": "New."}
        column(of, "message")["required"] = True
        column(of, "id").pop("unique")

    found = compared(tmp_path, change, "1.3.0")
    assert concerned(found.changes) == ["consumers", "producers", "nobody"]
    assert found.problem == "the version 1.3.0 is too low: 2.0.0 is due, as the change is major"


def test_a_place_is_that_of_the_rule_where_it_stands_or_stood(tmp_path: Path) -> None:
    (lost,) = compared(tmp_path, BREAKS_CONSUMERS["'words' is gone"]).changes
    path, _, line = lost.where.rpartition(":")
    assert Path(path).name == "old.odcs.yaml"
    assert (tmp_path / "old.odcs.yaml").read_text().splitlines()[int(line) - 1].strip() == "implementation:"
    (changed,) = compared(tmp_path, BREAKS_CONSUMERS["'rows' is looser: min_value 5 became 4"]).changes
    assert "new.odcs.yaml:" in changed.where


@pytest.mark.parametrize(
    ("old", "change", "due"),
    [
        ("0.2.0", BREAKS_CONSUMERS["id: unique is gone"], "0.3.0"),
        ("0.2.0", BREAKS_NOBODY["team changed"], "0.2.1"),
        ("first", BREAKS_NOBODY["team changed"], None),
    ],
)
def test_versions_before_the_first_major_one_and_others(
    tmp_path: Path, old: str, change: Callable[[Contract], Any], due: str | None
) -> None:
    before, after = contract() | {"version": old}, contract() | {"version": old}
    change(after)
    paths = [tmp_path / "old.odcs.yaml", tmp_path / "new.odcs.yaml"]
    for path, data in zip(paths, (before, after), strict=True):
        path.write_text(yaml.safe_dump(data), encoding="utf-8")
    found = diff_files(*paths)
    assert found.due == due
    assert found.problem is not None and (due or "is not MAJOR.MINOR.PATCH") in found.problem


def test_a_rule_that_promised_nothing_can_be_mended(tmp_path: Path) -> None:
    def never_failing(of: Contract) -> None:
        kwargs(of, "rows")["min_value"] = 0

    old = contract()
    never_failing(old)
    (tmp_path / "old.odcs.yaml").write_text(yaml.safe_dump(old), encoding="utf-8")
    (tmp_path / "new.odcs.yaml").write_text(yaml.safe_dump(contract() | {"version": "1.3.0"}), encoding="utf-8")
    found = diff_files(tmp_path / "old.odcs.yaml", tmp_path / "new.odcs.yaml")
    assert concerned(found.changes) == ["producers"] and found.problem is None
    with pytest.raises(ContractError, match="never fail"):
        diff_files(tmp_path / "new.odcs.yaml", tmp_path / "old.odcs.yaml")


@pytest.fixture
def committed_contract(tmp_path: Path) -> Path:
    """A contract in a Git repository, committed."""
    path = tmp_path / "contracts" / "rows.odcs.yaml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump(contract(), sort_keys=False), encoding="utf-8")
    author = {f"GIT_{who}_{what}": "a@b.c" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    for arguments in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "The first contract"]):
        subprocess.run(["git", *arguments], cwd=tmp_path, env={**os.environ, **author}, check=True)
    return path


def test_the_edited_file_is_compared_with_the_committed_one(committed_contract: Path) -> None:
    assert diff_against(committed_contract, "HEAD").changes == ()
    edited = contract()
    column(edited, "id").pop("unique")
    committed_contract.write_text(yaml.safe_dump(edited, sort_keys=False), encoding="utf-8")
    found = diff_against(committed_contract, "HEAD")
    assert concerned(found.changes) == ["consumers"]
    revision = found.against.partition(",")[0]
    assert "The first contract" in found.against and found.changes[0].where.startswith(f"{revision}:rows.odcs.yaml:")


def test_a_new_contract_breaks_nobody(committed_contract: Path) -> None:
    new = committed_contract.with_name("new.odcs.yaml")
    new.write_text(committed_contract.read_text(), encoding="utf-8")
    found = diff_against(new, "HEAD")
    assert (found.old_version, found.problem) == (None, None) and "a new contract" in found.as_text()


def test_what_cannot_be_compared_is_a_clear_error(committed_contract: Path) -> None:
    with pytest.raises(ContractError, match="no revision 'nope'"):
        diff_against(committed_contract, "nope")
    with pytest.raises(ContractError, match="does not exist"):
        diff_against(committed_contract.with_name("nowhere.odcs.yaml"), "HEAD")


def test_the_command_ends_with_1_where_the_version_is_too_low(committed_contract: Path, tmp_path: Path) -> None:
    edited = contract()
    column(edited, "message")["required"] = True
    committed_contract.write_text(yaml.safe_dump(edited, sort_keys=False), encoding="utf-8")
    done = retune(tmp_path / "home", "contracts", "diff", str(committed_contract))
    assert done.returncode == 1
    assert "breaks producers  message: required is new" in done.stdout and "1.3.0 is due" in done.stdout
    committed_contract.write_text(yaml.safe_dump(edited | {"version": "1.3.0"}, sort_keys=False), encoding="utf-8")
    done = retune(tmp_path / "home", "contracts", "diff", str(committed_contract), "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["problem"], found["due"]) == (0, None, "1.3.0")
    assert [change["concerns"] for change in found["changes"]] == ["producers"]


BOUND = st.none() | st.integers(0, 6)


@given(BOUND, BOUND, BOUND, BOUND, st.booleans(), st.booleans())
def test_bounds_are_looser_or_tighter_as_what_they_let_through_is_more_or_less(
    low: int | None, high: int | None, new_low: int | None, new_high: int | None, strict: bool, new_strict: bool
) -> None:
    old = {"min_value": low, "max_value": high, "strict_min": strict}
    new = {"min_value": new_low, "max_value": new_high, "strict_min": new_strict}

    def kept(of: dict[str, Any]) -> set[float]:
        least, most = of["min_value"], of["max_value"]
        values = [number / 2 for number in range(-2, 16)]
        above = [value for value in values if least is None or (value > least if of["strict_min"] else value >= least)]
        return {value for value in above if most is None or value <= most}

    went = direction("expect_column_values_to_be_between", old, new)
    if went in ("looser", "same"):
        assert kept(old) <= kept(new)
    if went in ("tighter", "same"):
        assert kept(new) <= kept(old)


SETS = st.lists(st.sampled_from("abcd"), unique=True)


@given(SETS, SETS)
def test_sets_are_looser_or_tighter_as_what_they_let_through_is_more_or_less(old: list[str], new: list[str]) -> None:
    for name, kept in (
        ("expect_column_values_to_be_in_set", set),
        ("expect_column_values_to_not_be_in_set", lambda values: set("abcde") - set(values)),
    ):
        went = direction(name, {"value_set": old}, {"value_set": new})
        if went in ("looser", "same"):
            assert kept(old) <= kept(new)
        if went in ("tighter", "same"):
            assert kept(new) <= kept(old)
        if went == "both":
            assert not kept(old) <= kept(new) and not kept(new) <= kept(old)


@pytest.mark.parametrize(
    ("expectation_name", "old", "new", "went"),
    [
        ("expect_column_values_to_not_hold_boilerplate", {"phrases": ["a"]}, {"phrases": ["a", "b"]}, "tighter"),
        ("expect_column_values_to_be_in_language", {"languages": ["en"]}, {"languages": ["en", "de"]}, "looser"),
        ("expect_column_values_to_be_in_language", {"languages": ["en"]}, {"languages": ["de"]}, "both"),
        ("expect_column_distinct_values_to_contain_set", {"value_set": ["a"]}, {"value_set": ["a", "b"]}, "tighter"),
        ("expect_column_label_shares_to_be_between", {"max_share": 0.5}, {"max_share": 0.6}, "looser"),
        ("expect_column_label_shares_to_be_between", {"min_share": 0.1}, {"min_share": 0.2}, "tighter"),
        ("expect_column_values_to_not_repeat_themselves", {"max_share": 0.2}, {"max_share": 0.1}, "tighter"),
        ("expect_column_values_to_not_repeat_themselves", {"ngram": 4}, {"ngram": 3}, "both"),
        ("expect_column_token_counts_to_be_between", {"tokenizer": "a"}, {"tokenizer": "b"}, "both"),
        ("expect_column_values_to_match_regex", {"mostly": 1.0}, {}, "same"),
        ("expect_column_value_z_scores_to_be_less_than", {"threshold": 3}, {"threshold": 4}, "looser"),
    ],
)
def test_arguments_of_other_rules_are_known_by_what_they_mean(
    expectation_name: str, old: dict[str, Any], new: dict[str, Any], went: str
) -> None:
    assert direction(expectation_name, old, new) == went
