"""A training set is held against its contract as a whole, and against the sets that were published before."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks.core.errors import ContractViolation
from tasks.core.home import PROJECT_ROOT, Home
from tasks.core.stage import StageResult, run_stage
from tasks.validate.check_training_set import CheckTrainingSetJob, Publication, Publications, choose_publications
from tasks.validate.config import Contracts, ValidateConfig
from tasks.validate.contracts.rule import ContractContext
from tasks.validate.drift.profile import PROFILE
from tests.unit.validate.drift.profiles import LABELS, training_rows, write_validated
from tests.unit.validate.tables import expectation, write_contract

SHIPPED = PROJECT_ROOT / "data_contracts" / "training_set.odcs.yaml"
Rows = Sequence[tuple[str, str]]


class Checks:
    """Training sets, published and new, and the check of the new ones."""

    def __init__(self, root: Path) -> None:
        self.root, self.home = root, Home(root / "home")

    def published(self, version: str, rows: Rows) -> Publication:
        ref = write_validated(self.root / f"version-{version}", rows, version)
        return Publication(version, str(ref.folder / PROFILE))

    def check(
        self, rows: Rows, last: Publication | None = None, baseline: Publication | None = None, contract: Path = SHIPPED
    ) -> StageResult:
        folder = self.root / f"tonight-{len(list(self.root.glob('tonight-*')))}"
        config = ValidateConfig(contracts=Contracts(training_set=str(contract)))
        validated = write_validated(folder, rows, folder.name)
        job = CheckTrainingSetJob(config, validated, Publications(last, baseline), (), ContractContext())
        return run_stage(job, self.home, "run-1")


@pytest.fixture
def checks(tmp_path: Path) -> Checks:
    return Checks(tmp_path)


def details(done: StageResult) -> dict[str, Any]:
    found: dict[str, Any] = done.ref.manifest()["summary"]["details"]
    return found


def test_the_first_training_set_has_nothing_to_be_compared_with(checks: Checks) -> None:
    done = checks.check(training_rows(200, 1))
    assert done.ref.rows == 200
    assert details(done) == {"warnings": {}, "compared_with": {}, "drift": {}}
    for table in ("training_set", "drift"):
        assert (done.ref.folder / "report" / "data_docs" / table / "index.html").is_file()


def test_a_set_like_the_published_ones_passes_and_its_measures_are_told(checks: Checks) -> None:
    last, baseline = checks.published("7", training_rows(300, 1)), checks.published("2", training_rows(200, 2))
    found = details(checks.check(training_rows(250, 3), last, baseline))
    assert found["compared_with"] == {"the last published version": "7", "the baseline version": "2"}
    assert found["drift"]["row_count_change"] == {
        "value": pytest.approx(-1 / 6), "limit": -0.5, "severity": "critical", "holds": True, "against": "7",
        "said": "300 rows then, 250 now",
    }  # fmt: skip
    assert found["drift"]["row_count_change_since_baseline"]["against"] == "2"
    assert found["drift"]["source_distance"]["severity"] == "warning"
    assert all(measure["holds"] for measure in found["drift"].values())


def test_a_set_that_moved_stops_the_run_and_says_what_by_how_much_and_since_when(checks: Checks) -> None:
    last, baseline = checks.published("7", training_rows(400, 1)), checks.published("2", training_rows(400, 2))
    with pytest.raises(ContractViolation) as caught:
        checks.check(training_rows(400, 3, weights=(8, 1, 1, 1)), last, baseline)
    first, second = caught.value.what.splitlines()
    assert "label_distance is 0." in first and "at most 0.2 is allowed, against version 7: cards 2" in first
    assert "label_distance_since_baseline is 0." in second and "against version 2" in second
    path, number = caught.value.where.rsplit(":", 1)
    assert "maximum: 0.2" in Path(path).read_text(encoding="utf-8").splitlines()[int(number) - 1]
    assert "drift_window" in caught.value.remedy
    evidence = checks.home.logs / "run-1" / "check_training_set"
    measured = json.loads((evidence / "drift.json").read_text(encoding="utf-8"))["drift"]["label_distance"]
    assert measured["value"] > measured["limit"] == 0.2 and not measured["holds"]
    assert (evidence / "report" / "data_docs" / "drift" / "index.html").is_file()


@pytest.mark.parametrize(
    ("changes", "measure"),
    [
        ({"length": 25}, "user_length_distance"),
        ({"words": ["card", "lost", "please", "help"]}, "distinct_change"),
        (
            {"labels": [f"I'm sorry, but I can't assist with that request: {label}." for label in LABELS]},
            "refusal_share_change",
        ),
        ({"labels": [f"Bitte wenden Sie sich an die Abteilung für {label}." for label in LABELS]}, "language_distance"),
    ],
)
def test_each_kind_of_change_is_stopped_by_the_measure_for_it(
    checks: Checks, changes: dict[str, Any], measure: str
) -> None:
    last = checks.published("1", training_rows(300, 1))
    with pytest.raises(ContractViolation, match=f"{measure} is "):
        checks.check(training_rows(300, 2, **changes), last, last)


def test_what_is_over_both_limits_against_one_publication_is_told_once(checks: Checks) -> None:
    only = checks.published("1", training_rows(400, 1))
    with pytest.raises(ContractViolation) as caught:
        checks.check(training_rows(400, 3, weights=(9, 1, 1, 1)), only, only)
    assert [line.count("label_distance") for line in caught.value.what.splitlines()] == [1]


def test_new_sources_and_prompts_are_warned_of_and_stop_nothing(checks: Checks) -> None:
    rows = training_rows(200, 1)
    elsewhere = write_validated(checks.root / "elsewhere", rows, "e", source="b.csv", prompt="vary")
    published = Publication("1", str(elsewhere.folder / PROFILE))
    found = details(checks.check(rows, published, published))
    assert set(found["warnings"]) == {
        "the sources are those of the last time", "the sources are those of the baseline",
        "the prompts are those of the last time", "the prompts are those of the baseline",
    }  # fmt: skip
    assert found["drift"]["source_distance"]["said"] == "a.csv 0.0% then, 100.0% now; b.csv 100.0% then, 0.0% now"


def test_rules_on_the_table_are_checked_as_well_and_told_with_the_drift(checks: Checks, tmp_path: Path) -> None:
    contract = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))
    rule = expectation("expect_column_distinct_values_to_contain_set", {"column": "assistant_text", "value_set": ["x"]})
    contract["schema"][0]["quality"].append(rule | {"name": "there is an x"})
    own = tmp_path / "own.odcs.yaml"
    own.write_text(yaml.safe_dump(contract, sort_keys=False), encoding="utf-8")
    with pytest.raises(ContractViolation, match="there is an x"):
        checks.check(training_rows(200, 1), contract=own)
    last = checks.published("1", training_rows(900, 1))
    with pytest.raises(ContractViolation) as caught:
        checks.check(training_rows(200, 2), last, None, own)
    assert "row_count_change is -0.778, at least -0.5 is allowed" in caught.value.what
    assert "there is an x" in caught.value.what


def test_a_contract_without_limits_on_drift_measures_it_all_the_same(checks: Checks, tmp_path: Path) -> None:
    only_rows = write_contract(tmp_path / "rows.odcs.yaml", [{"name": "row_id", "required": True}])
    last = checks.published("1", training_rows(900, 1))
    found = details(checks.check(training_rows(90, 2), last, last, only_rows))
    assert found["drift"]["row_count_change"]["value"] == pytest.approx(-0.9)
    assert found["drift"]["row_count_change"]["limit"] is None


def test_the_verdict_depends_on_what_was_compared(checks: Checks) -> None:
    config = ValidateConfig(contracts=Contracts(training_set=str(SHIPPED)))
    validated = write_validated(checks.root / "validated", training_rows(50, 1), "v")
    first, second = checks.published("1", training_rows(50, 2)), checks.published("2", training_rows(50, 3))
    keys = {
        CheckTrainingSetJob(config, validated, publications, (), ContractContext()).key().hex
        for publications in (Publications(), Publications(first, first), Publications(second, first))
    }
    assert len(keys) == 3


def test_the_newest_and_the_furthest_publication_in_the_window_are_chosen(checks: Checks) -> None:
    def profile_of(version: str) -> tuple[str, Path]:
        return version, Path(checks.published(version, training_rows(5, int(version))).profile)

    nine, eight, seven, six = map(profile_of, "9876")
    gone = ("10", checks.root / "gone.json")
    (checks.root / "old.json").write_text('{"format": 0}', encoding="utf-8")
    assert choose_publications([], 30) == Publications()
    assert choose_publications([gone], 30) == Publications()

    def chosen(window: int) -> tuple[str | None, str | None]:
        found = choose_publications([gone, nine, eight, ("x", checks.root / "old.json"), seven, six], window)
        return found.last.version if found.last else None, found.baseline.version if found.baseline else None

    assert [chosen(window) for window in (1, 2, 3, 4, 30)] == [
        (None, None), ("9", "9"), ("9", "8"), ("9", "8"), ("9", "6"),
    ]  # fmt: skip
