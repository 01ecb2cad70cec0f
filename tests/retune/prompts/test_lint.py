"""``retune prompts lint``: each planted fault is found at its line and column, and nothing else is."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retune.lint_report import LintReport
from retune.prompts.lint import lint_prompts
from retune.prompts.lint_output import shortest_answer
from retune.prompts.lint_text import stray_braces
from tasks.core.errors import RecipeError
from tasks.core.home import PROJECT_ROOT
from tasks.core.prompts.syntax import Source
from tests.hub_cache import UNPINNED, in_hub_cache
from tests.retune.command import retune, retune_process
from tests.retune.prompts.planted_faults import (
    CONTRACT,
    EXAMPLE,
    FAULTS,
    FILES,
    JUDGE,
    RECIPE,
    RULES,
    SHOW,
    WRITE,
    Fault,
    planted,
    write,
)


def test_a_good_project_has_no_findings(tmp_path: Path) -> None:
    report = lint_prompts([], project=write(tmp_path, FILES))
    assert report == LintReport((), checked=3)
    assert report.as_text() == "3 templates checked: 0 errors, 0 warnings"


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_planted_fault_is_found_at_its_place_and_nothing_else_is(tmp_path: Path, fault: Fault) -> None:
    project, place = planted(tmp_path, fault)
    findings = lint_prompts([], project=project).findings
    assert [(finding.code, finding.severity) for finding in findings] == [(fault.code, fault.severity)]
    assert (findings[0].path, findings[0].line, findings[0].column) == place
    assert findings[0].what and "\n" not in findings[0].what


def test_the_planted_faults_are_of_many_kinds() -> None:
    assert len({fault.code for fault in FAULTS}) >= 25


def test_bytes_that_are_no_utf_8_are_found_at_their_place(tmp_path: Path) -> None:
    project = write(tmp_path, FILES)
    path = tmp_path / WRITE
    path.write_bytes(path.read_bytes().replace(b"about", "für".encode("latin-1")))
    findings = lint_prompts(["write"], project=project).findings
    lines = FILES[WRITE].split("\n")
    line = next(number for number, text in enumerate(lines, 1) if "about" in text)
    found = [(finding.code, finding.line, finding.column) for finding in findings]
    assert found == [("encoding", line, lines[line - 1].index("about") + 2)]


def test_two_templates_of_one_name_are_found(tmp_path: Path) -> None:
    other = "prompts/other/write.md"
    files = FILES | {other: FILES[WRITE], other.replace("write.md", "partials/rules.md"): FILES[RULES]}
    files[other.replace("write.md", "examples/write.json")] = FILES[EXAMPLE]
    project = write(tmp_path, files)
    findings = lint_prompts(["write", str(tmp_path / other)], project=project).findings
    errors = [finding for finding in findings if finding.severity == "error"]
    assert [(error.code, error.path, error.line, error.column) for error in errors] == [
        ("same-name", str(tmp_path / other), 2, 7)
    ]


def test_every_fault_of_a_template_is_found_at_once(tmp_path: Path) -> None:
    text = FILES[WRITE].replace("{{ topic }}", "{topic}").replace("contract: rows", "contract: row")
    project = write(tmp_path, FILES | {WRITE: text.replace("required: [message]", "required: [mesage]")})
    codes = [finding.code for finding in lint_prompts([], project=project).findings]
    assert codes == ["required-property", "unknown-contract", "stray-braces"]


def test_a_recipe_that_cannot_be_read_is_a_warning_and_one_that_is_asked_for_an_error(tmp_path: Path) -> None:
    project = write(tmp_path, FILES | {RECIPE: FILES[RECIPE].replace("columns", "colums")})
    report = lint_prompts([], project=project)
    assert report.errors == 0
    assert ("recipe", str(tmp_path / RECIPE)) in [(finding.code, finding.path) for finding in report.findings]
    with pytest.raises(RecipeError, match="colums"):
        lint_prompts([], "nightly", project)
    with pytest.raises(RecipeError, match="no recipe 'nightyl'") as caught:
        lint_prompts([], "nightyl", project)
    assert "did you mean 'nightly'?" in caught.value.remedy


def test_a_template_can_be_checked_for_a_recipe_that_does_not_name_it_yet(tmp_path: Path) -> None:
    project = write(tmp_path, FILES | {RECIPE: FILES[RECIPE].replace("- write\n", "")})
    assert lint_prompts(["write"], project=project).errors == 0
    changed = FILES[WRITE].replace("field: message}", "field: reply}")
    (tmp_path / WRITE).write_text(changed, encoding="utf-8")
    assert [finding.code for finding in lint_prompts(["write"], "nightly", project).findings] == ["unknown-field"]
    assert lint_prompts([], "nightly", project).checked == 2  # those that the recipe names


def test_the_fields_of_a_dataset_info_are_those_of_the_form_it_states(tmp_path: Path) -> None:
    recipe = yaml.safe_load(FILES[RECIPE])
    recipe["collect"] = {"sources": [{"dataset_info": "dataset_info.json", "dataset": "seeds"}]}
    recipe["generate"] = {"prompts": ["vary"]}
    recipe["validate"] = {"contracts": {"rows": "none"}}
    recipe["task"] = {"input": "instruction", "output": "output"}
    text = (
        "---\nname: vary\nversion: 1\npurpose: Vary.\nvariables: [instruction, outptu]\n"
        "output: {field: instruction}\n---\n"
        "user:\n{{ instruction }} {{ outptu }}\n"
    )
    files = {
        RECIPE: yaml.safe_dump(recipe),
        "deployments/recipes/dataset_info.json": '{"seeds": {"file_name": "seeds.json"}}',
        "prompts/vary.md": text,
        "prompts/examples/vary.json": '{"instruction": "a", "outptu": "b"}',
    }
    findings = lint_prompts([], project=write(tmp_path, files)).findings
    assert [(finding.code, finding.line, finding.column) for finding in findings] == [("unknown-field", 5, 26)]
    assert findings[0].remedy.startswith("did you mean 'output'?")


def test_a_teacher_that_is_not_on_this_machine_is_a_warning(tmp_path: Path) -> None:
    recipe = yaml.safe_load(FILES[RECIPE])
    recipe["model"]["path"] = "nobody/has-this-model"
    recipe["generate"]["server"] = {"max_model_len": 64}  # so short that only counting could tell
    project = write(tmp_path, FILES | {RECIPE: yaml.safe_dump(recipe)})
    findings = lint_prompts(["show"], project=project).findings
    assert [(finding.code, finding.severity) for finding in findings] == [("tokens-not-counted", "warning")]
    assert "nobody/has-this-model" in findings[0].what


def test_tokens_are_not_counted_with_code_of_another_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = yaml.safe_load(FILES[RECIPE])
    recipe["model"] = in_hub_cache(tmp_path / "hub", monkeypatch, UNPINNED, trust_remote_code=True).model_dump()
    recipe["generate"]["server"] = {"max_model_len": 64}
    findings = lint_prompts(["show"], project=write(tmp_path, FILES | {RECIPE: yaml.safe_dump(recipe)})).findings
    assert [(finding.code, finding.severity) for finding in findings] == [("tokens-not-counted", "warning")]
    assert "code from another repository" in findings[0].what


def test_the_model_s_own_context_counts_where_the_recipe_sets_none(tmp_path: Path) -> None:
    recipe = yaml.safe_load(FILES[RECIPE])
    recipe["generate"]["server"] = {}
    text = FILES[WRITE].replace("max_tokens: 48", "max_tokens: 500")
    project = write(tmp_path, FILES | {RECIPE: yaml.safe_dump(recipe), WRITE: text})
    findings = lint_prompts([], project=project).findings
    assert [finding.code for finding in findings] == ["token-budget"]
    assert "more than the 512" in findings[0].what  # the seedling's max_position_embeddings


def test_the_shortest_answer_follows_the_schema() -> None:
    schema = {
        "type": "object",
        "properties": {
            "kind": {"enum": ["long name", "b"]},
            "tags": {"type": "array", "minItems": 2, "items": {"type": "string", "minLength": 3}},
            "free": {"type": "string", "minLength": 100},
        },
        "required": ["kind", "tags"],
    }
    assert shortest_answer(schema) == len('{"kind": "b", "tags": ["xxx", "xxx"]}')


def test_the_smallest_answer_is_measured_without_being_made() -> None:
    schema: dict[str, Any] = {"type": "string", "minLength": 10}
    for _ in range(10):
        schema = {"type": "array", "minItems": 1000, "items": schema}
    assert shortest_answer(schema) > 10**30


def test_many_braces_are_checked_in_no_time() -> None:
    source = Source("} }" * 100_000, "ask.md")
    started = time.process_time()
    assert len(stray_braces(source, [])) == 100_001
    assert time.process_time() - started < 10


def test_a_template_that_writes_no_data_is_found_on_its_example(tmp_path: Path) -> None:
    project = write(tmp_path, FILES | {WRITE: FILES[WRITE].replace("{{ topic }}", "{{ topic.upper }}")})
    (finding,) = lint_prompts(["write"], project=project).findings
    assert finding.code == "render" and "a function that is not called" in finding.what


def test_the_command_ends_with_1_on_an_error_and_prints_place_and_remedy(tmp_path: Path) -> None:
    write(tmp_path, FILES | {WRITE: FILES[WRITE].replace("{{ topic }}", "{topic}")})
    path = tmp_path / WRITE
    place = next(
        f"{path}:{number}:{line.index('{topic}') + 1}"
        for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1)
        if "{topic}" in line
    )
    done = retune_process(tmp_path / "home", "prompts", "lint", str(path))
    assert (done.returncode, done.stderr) == (1, "")
    lines = done.stdout.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith(f"{place}: stray-braces: "))
    assert lines[at + 1].startswith("  remedy: write {{ topic }}")
    assert lines[-1].startswith("1 template checked: ")
    done = retune(tmp_path / "home", "prompts", "lint", str(path), "--json")
    printed = json.loads(done.stdout)
    assert done.returncode == 1 and printed["checked"] == 1
    assert printed["findings"][0].keys() == {"code", "what", "path", "line", "column", "remedy", "severity"}
    assert not (tmp_path / "home").exists()


def test_the_command_ends_with_0_where_nothing_is_wrong(tmp_path: Path) -> None:
    done = retune(tmp_path / "home", "prompts", "lint", "write_message", "--recipe", "embedded", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {"findings": [], "checked": 1, "without_recipe": []}


def test_templates_that_surely_fit_are_checked_without_loading_anything_heavy() -> None:
    code = (
        "import sys; from retune.prompts.lint import lint_prompts; print(lint_prompts([]).checked);"
        "print(*({'prefect', 'torch', 'transformers', 'pandas', 'vllm', 'openai'} & {*sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    checked, loaded = done.stdout.split("\n")[:2]
    assert int(checked) >= 4 and loaded == ""


@pytest.mark.parametrize("place", ["prompts/mine.yaml", "mine.yaml", "recipes/mine.yaml"])
def test_a_template_outside_the_project_is_checked_for_the_recipe_near_it(tmp_path: Path, place: str) -> None:
    up = "" if place.startswith("prompts") else "../" * place.count("/") + "prompts/"
    recipe = yaml.safe_load(FILES[RECIPE])
    recipe |= {"generate": {"prompts": [f"{up}vary.md"]}, "task": {"input": "message", "output": "topic"}}
    head = "name: vary\nversion: 1\npurpose: x\nvariables: [mesage]\noutput: {field: text}\n"
    text = f"---\n{head}---\nuser:\n{{{{ mesage }}}}\n"
    example = {"prompts/examples/vary.json": '{"mesage": "a"}'}
    write(tmp_path, {place: yaml.safe_dump(recipe), "prompts/vary.md": text, **example})
    report = lint_prompts([str(tmp_path / "prompts" / "vary.md")])
    assert {(one.code, one.severity) for one in report.findings} == {
        ("task-field", "error"),
        ("unknown-field", "error"),
    }
    assert report.without_recipe == ()
    done = retune(tmp_path / "home", "prompts", "preview", str(tmp_path / "prompts" / "vary.md"))
    assert done.returncode == 1 and "copies of their documents" in done.stdout


def test_a_template_that_no_recipe_names_says_that_its_columns_are_not_checked(tmp_path: Path) -> None:
    files = {"vary.md": "---\nname: vary\nversion: 1\npurpose: x\n---\nuser:\nx\n", "examples/vary.json": "{}"}
    folder = tmp_path / "own" / "prompts"
    write(folder, {**files, "broken.yaml": "a: b: c", "other.yaml": "collect: 1\ntrain: 1\n"})
    report = lint_prompts([str(folder / "vary.md")])
    assert report.findings == () and report.as_json()["without_recipe"] == [str(folder / "vary.md")]
    assert report.as_text().splitlines()[0].startswith("columns not checked") and "--recipe" in report.as_text()


@pytest.mark.parametrize("recipe", [None, "embedded", "qwen2.5-0.5b-cpu"])
def test_the_shipped_templates_pass(recipe: str | None) -> None:
    report = lint_prompts([], recipe)
    assert [finding for finding in report.findings if finding.severity == "error"] == []
    assert report.checked >= 2 if recipe == "embedded" else report.checked >= 1


def test_every_shipped_template_has_an_example_and_no_example_is_left_over() -> None:
    prompts = PROJECT_ROOT / "prompts"
    assert {path.stem for path in prompts.glob("*.md")} == {path.stem for path in prompts.glob("examples/*.json")}


PIECES = (
    "{",
    "}",
    "{{",
    "}}",
    "{%",
    "%}",
    "{#",
    "{% for a in b %}",
    "---\n",
    "user:\n",
    ":",
    "[",
    "&a",
    "*a",
    "\0",
    "\t",
)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_random_edits_of_a_template_give_findings_and_nothing_else(data: st.DataObject, tmp_path: Path) -> None:
    name = data.draw(st.sampled_from([WRITE, SHOW, JUDGE, RULES, EXAMPLE, CONTRACT]))
    text = FILES[name]
    for _ in range(data.draw(st.integers(1, 4))):
        begin = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(begin, min(len(text), begin + 12)))
        text = text[:begin] + data.draw(st.sampled_from(["", *PIECES]) | st.text(max_size=6)) + text[end:]
    project = write(tmp_path, FILES)
    (tmp_path / name).write_bytes(text.encode("utf-8", "surrogatepass"))
    report = lint_prompts([], project=project)
    for finding in report.findings:
        lines = (Path(finding.path).read_bytes().decode("utf-8", "replace").split("\n")) if finding.path else []
        assert 1 <= finding.line <= len(lines) + 1
        assert finding.column >= 1 and finding.code and finding.what
    json.dumps(report.as_json())


def test_a_template_that_is_not_there_is_a_finding_with_the_nearest_name(tmp_path: Path) -> None:
    report = lint_prompts(["wrote"], project=write(tmp_path, FILES))
    assert [(finding.code, finding.line, finding.column) for finding in report.findings] == [("no-file", 1, 1)]
    assert report.findings[0].remedy.startswith("did you mean 'write'?")
