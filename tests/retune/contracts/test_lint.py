"""``retune contracts lint``: each planted fault is found at its line and column, and nothing else is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from retune.contracts.lint import lint_contracts
from tasks.core.errors import RecipeError
from tests.retune.command import retune
from tests.retune.contracts.planted_contract_faults import (
    DOCUMENTS,
    FAULTS,
    FILES,
    PROMPT,
    RECIPE,
    ROWS,
    SETS,
    Fault,
    planted,
)
from tests.retune.prompts.planted_faults import write
from tests.unit.validate.tables import write_contract


def test_good_contracts_have_no_findings(tmp_path: Path) -> None:
    report = lint_contracts([], project=write(tmp_path, FILES))
    assert report.as_text() == "3 contracts checked: 0 errors, 0 warnings"


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_planted_fault_is_found_at_its_place_and_nothing_else_is(tmp_path: Path, fault: Fault) -> None:
    project, place = planted(tmp_path, fault)
    findings = lint_contracts([], project=project).findings
    assert [(finding.code, finding.severity) for finding in findings] == [(fault.code, fault.severity)]
    assert (findings[0].path, findings[0].line, findings[0].column) == place
    assert fault.says in f"{findings[0].what} {findings[0].remedy}"
    assert findings[0].remedy and "\n" not in findings[0].what


def test_the_planted_faults_are_of_many_kinds() -> None:
    assert len({fault.code for fault in FAULTS}) >= 20


def test_faults_of_several_files_and_places_are_all_found_at_once(tmp_path: Path) -> None:
    files = FILES | {
        ROWS: FILES[ROWS].replace("mostly: 0.9", "mostly: 9").replace("max_share: 0.9", "max_share: 9"),
        SETS: FILES[SETS].replace("label_distance", "label_distanse").replace("user_text", "usr_text"),
    }
    report = lint_contracts([], project=write(tmp_path, files))
    assert [(Path(finding.path).name, finding.code) for finding in report.findings] == [
        ("rows.odcs.yaml", "bad-range"),
        ("rows.odcs.yaml", "bad-range"),
        ("sets.odcs.yaml", "unknown-column"),
        ("sets.odcs.yaml", "unknown-column"),
    ]
    assert report.errors == 4


def test_a_column_that_only_some_recipes_lack_is_said_with_their_names(tmp_path: Path) -> None:
    other = FILES[RECIPE].replace("name: nightly", "name: other").replace("topic: topic", "subject: topic")
    other = other.replace("- write", "- vary")
    vary = FILES[PROMPT].replace("name: write", "name: vary").replace("topic", "subject")
    files = {"deployments/recipes/other.yaml": other, "prompts/vary.md": vary}
    (finding,) = lint_contracts(["documents"], project=write(tmp_path, FILES | files)).findings
    assert (finding.code, Path(finding.path).name) == ("unknown-column", Path(DOCUMENTS).name)
    assert "'topic'" in finding.what and "'other', documents" in finding.what and "'nightly'" not in finding.what


def test_a_contract_that_no_recipe_names_is_checked_by_its_own_columns(tmp_path: Path) -> None:
    alone = "data_contracts/alone.odcs.yaml"
    text = FILES[ROWS].replace("- name: message", "- name: stars").replace("column: tone", "column: tonne")
    project = write(tmp_path, FILES | {alone: text})
    (finding,) = lint_contracts(["alone"], project=project).findings
    assert finding.code == "unknown-column" and "tonne" in finding.what
    codes = {finding.code for finding in lint_contracts(["alone"], "nightly", project).findings}
    assert codes == {"unknown-column"}, "for a recipe, its columns count"


def test_a_name_that_no_contract_has_is_an_error(tmp_path: Path) -> None:
    (finding,) = lint_contracts(["row"], project=write(tmp_path, FILES)).findings
    assert finding.code == "no-file" and "rows.odcs.yaml" in finding.remedy


def test_a_recipe_or_a_prompt_that_cannot_be_read_is_a_warning(tmp_path: Path) -> None:
    project = write(tmp_path, FILES | {RECIPE: FILES[RECIPE].replace("columns", "colums")})
    assert [(finding.code, finding.severity) for finding in lint_contracts([], project=project).findings] == [
        ("recipe", "warning")
    ]
    with pytest.raises(RecipeError, match="colums"):
        lint_contracts([], "nightly", project)
    project = write(tmp_path, FILES | {PROMPT: "---\nname: [\n---\nuser:\nx\n"})
    found = lint_contracts(["rows"], project=project).findings
    assert {(finding.code, finding.severity) for finding in found} == {("recipe", "warning")}


@pytest.mark.parametrize("place", ["contracts/mine.yaml", "mine.yaml", "recipes/mine.yaml"])
def test_a_contract_outside_the_project_is_checked_for_the_recipe_near_it(tmp_path: Path, place: str) -> None:
    up = "" if place.startswith("contracts") else "../" * place.count("/") + "contracts/"
    recipe = yaml.safe_load(FILES[RECIPE])
    recipe["validate"] = {"contracts": {"documents": f"{up}own.odcs.yaml"}}
    recipe["task"] = {"input": "message", "output": "queue", "labels": ["cards", "bills"]}
    recipe["collect"]["columns"] = {"message": "m", "queue": "q"}
    recipe.pop("generate")
    path = tmp_path / "contracts" / "own.odcs.yaml"
    (tmp_path / "recipes").mkdir()
    path.parent.mkdir()
    write_contract(path, [{"name": "mesage"}, {"name": "queue", "enum": [{"value": "cards"}, {"value": "bils"}]}])
    (tmp_path / place).write_text(yaml.safe_dump(recipe), encoding="utf-8")
    report = lint_contracts([str(path)])
    errors = [(one.code, one.remedy) for one in report.findings if one.severity == "error"]
    assert [code for code, _ in errors] == ["unknown-column", "task-label", "task-label"] and not report.without_recipe
    assert "did you mean 'message'" in errors[0][1] and "did you mean 'bills'" in errors[1][1]
    (tmp_path / place).unlink()
    report = lint_contracts([str(path)])
    assert report.without_recipe == (str(path),) and "columns not checked" in report.as_text()


def test_the_command_says_it_all_as_json_and_ends_with_1(tmp_path: Path) -> None:
    project, place = planted(tmp_path, next(fault for fault in FAULTS if fault.code == "regex"))
    done = retune(tmp_path / "home", "contracts", "lint", str(project.root / ROWS), "--json")
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert found["checked"] == 1
    assert [(one["code"], one["line"], one["column"]) for one in found["findings"] if one["severity"] == "error"] == [
        ("regex", *place[1:])
    ]


def test_the_command_ends_with_0_where_nothing_is_wrong(tmp_path: Path) -> None:
    done = retune(tmp_path / "home", "contracts", "lint", "chat_examples")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "1 contract checked: 0 errors, 0 warnings\n"
