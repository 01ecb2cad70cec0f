"""`retune prompts preview`: what a template sends, and what comes of it with a teacher."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
from typing import NoReturn

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from flows.recipe.read import read_recipe
from flows.report.record import RunRecord
from retune.prompts.documents import find_documents
from retune.prompts.preview import Preview, preview, template_faults
from retune.prompts.print_trials import print_preview
from retune.teacher import StandingTeacher
from tasks.core.config import ModelSource
from tasks.core.errors import PromptError, ServerError, ServerStartError, SourceError
from tasks.core.home import PROJECT_ROOT
from tasks.core.prompts import read_prompt
from tests.openai_stand_in import Fault
from tests.retune.command import retune
from tests.retune.prompts.trials import HOSTILE
from tests.retune.workshop import TOPICS, Workshop, workshop, writes

__all__ = ["workshop"]
ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


def look(
    at: Workshop, name: str = "write_message", *, rows: int = 3, documents: str = "example", run: bool = False
) -> Preview:
    return preview(str(at.prompts / f"{name}.md"), at.recipe, at.home, rows=rows, documents=documents, run=run)


def printed(shown: Preview) -> str:
    console = Console(file=io.StringIO(), width=100, force_terminal=True, color_system="standard", highlight=False)
    print_preview(console, shown)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_preview_renders_the_example_as_often_as_the_night_asks_it(workshop: Workshop) -> None:
    shown = look(workshop)
    assert [(trial.document_id, trial.index) for trial in shown.trials] == [("example-1", 0), ("example-1", 1)]
    for trial in shown.trials:
        (turn,) = trial.messages
        assert re.fullmatch(r"Write a (calm|cross|hurried) message about a lost card\.", turn["content"])
        assert trial.prompt_tokens is not None and 5 < trial.prompt_tokens < 40
        assert trial.answer is None and trial.rows == ()


def test_draws_are_those_of_the_night_and_every_document_comes_once_before_any_comes_twice(workshop: Workshop) -> None:
    some = look(workshop, rows=14, documents=str(workshop.documents))
    assert [trial.index for trial in some.trials] == [0] * 12 + [1] * 2
    assert {trial.messages[0]["content"].split()[2] for trial in some.trials} == {"calm", "cross", "hurried"}
    assert look(workshop, rows=5, documents=str(workshop.documents)).trials == some.trials[:5]


def test_the_recipes_own_documents_are_collected_where_there_was_no_night(workshop: Workshop) -> None:
    shown = look(workshop, rows=4, documents="recipe")
    assert len({trial.document_id for trial in shown.trials}) == 4
    said = [trial.messages[0]["content"].removesuffix(".").partition("about ")[2] for trial in shown.trials]
    assert set(said) <= set(TOPICS)


def test_a_judge_has_no_rows_before_the_first_night(workshop: Workshop) -> None:
    with pytest.raises(SourceError, match="No night has written rows") as caught:
        look(workshop, "check_message", documents="recipe")
    assert "run a night" in caught.value.remedy


def test_few_shot_examples_come_from_the_example_or_from_other_training_documents(workshop: Workshop) -> None:
    few_shot = "  topic: {from: document}\n  others: {from: few_shot, count: 2, fields: [message], same: queue}"
    workshop.edit("  topic: {from: document}", few_shot)
    workshop.edit("message about", "message unlike {{ others | map(attribute='message') | sort | join(' or ') }} about")
    example = {"topic": "a lost card", "tone": "calm", "others": [{"message": "one"}, {"message": "two"}]}
    (workshop.prompts / "examples" / "write_message.json").write_text(json.dumps(example), encoding="utf-8")
    assert all("unlike one or two about" in trial.messages[0]["content"] for trial in look(workshop).trials)
    for trial in look(workshop, rows=5, documents="recipe").trials:
        shown = re.findall(r"hello \d+", trial.messages[0]["content"])
        own = trial.messages[0]["content"].partition("about topic ")[2].removesuffix(".")
        assert len(set(shown)) == 2 and f"hello {own}" not in shown


def test_the_last_nights_documents_are_taken_and_for_a_judge_the_rows_that_it_wrote(workshop: Workshop) -> None:
    train = [{"document_id": f"n{number}", "topic": "from the night"} for number in range(3)]
    rows = [{"document_id": "n1", "row_id": "r1", "raw": "Hello", "message": "written at night"}]
    record_night(workshop, "20260101T000000Z", collect=[{"document_id": "old", "topic": "from a night before"}])
    record_night(workshop, "20260102T000000Z", collect=train, generate=rows)
    record_night(workshop, "20260103T000000Z")
    night = look(workshop, rows=9, documents="recipe")
    assert {trial.document_id for trial in night.trials} == {"n0", "n1", "n2"}
    assert all(trial.messages[0]["content"].endswith("about from the night.") for trial in night.trials)
    (judged,) = look(workshop, "check_message", documents="recipe").trials
    assert judged.messages[0]["content"] == "Is it good? written at night"


def record_night(at: Workshop, run_id: str, **tables: list[dict[str, str]]) -> None:
    """The record of a run that got as far as these stages."""
    stages = {}
    for stage, rows in tables.items():
        folder = at.home.artifacts / stage / run_id
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text("{}", encoding="utf-8")
        name = "train" if stage == "collect" else "rows"
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet")
        stages[stage] = {"path": str(folder)}
    folder = at.home.runs / run_id
    folder.mkdir(parents=True)
    RunRecord(run_id, "embedded", "published", 0.0, str(folder), stages=stages).write()


def test_a_run_shows_the_answers_the_rows_and_the_judges_verdicts(workshop: Workshop) -> None:
    with workshop.teacher(writes("Please help me", verdict="no, it is not")) as http:
        shown = look(workshop, run=True)
        assert len([body for body in http.asked if body["path"].endswith("chat/completions")]) == 4
    assert shown.asked and shown.seconds > 0
    for trial in shown.trials:
        (row,) = trial.rows
        assert (trial.answer, trial.finish_reason, trial.was_stored) == ("Please help me", "stop", False)
        assert row.fields == {"message": "Please help me"}
        assert row.rule == "judge check_message: 'no, it is not'"
        assert [judgement.passed for judgement in row.judgements] == [False]
    text = ESCAPES.sub("", printed(shown))
    assert "0 of 2 rows kept" in text and "check_message: refused, no, it is not" in text


def test_what_was_answered_is_not_asked_again(workshop: Workshop) -> None:
    with workshop.teacher(writes("Please help me")) as http:
        look(workshop, run=True)
        before = len(http.asked)
        again = look(workshop, run=True)
        assert len(http.asked) == before
    assert all(trial.was_stored and trial.rows[0].is_kept for trial in again.trials)


def test_a_judge_is_previewed_with_its_verdict(workshop: Workshop) -> None:
    with workshop.teacher(writes("", verdict="Yes.")):
        (trial,) = look(workshop, "check_message", run=True).trials
    assert trial.answer == "Yes." and trial.rows[0].is_kept and trial.rows[0].judgements[0].reasons == "Yes."


def test_an_answer_that_is_cut_off_or_refused_says_so(workshop: Workshop) -> None:
    (workshop.root / "some.json").write_text(json.dumps([{"topic": "too long"}, {"topic": "short"}]), encoding="utf-8")
    with workshop.teacher(lambda model, messages: ("and then", "length")):
        shown = look(workshop, rows=2, documents=str(workshop.root / "some.json"), run=True)
    refused, cut = (trial.rows[0].rule or "" for trial in shown.trials)
    assert refused.startswith("refused: ") and "longer than the model's context" in refused
    assert cut == "truncated: the answer ran into max_tokens"


def test_another_teacher_than_the_one_that_is_served_is_started(
    workshop: Workshop, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_started(model: ModelSource, *arguments: object, **named: object) -> NoReturn:
        raise ServerStartError(f"{model.path} does not start")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # it is not asked for this model
    monkeypatch.setattr("tasks.generate.own_server.serving", not_started)
    monkeypatch.setattr("tasks.generate.own_server.context_length", lambda model, requests: 1024)
    with workshop.teacher(writes("hello")) as http:
        workshop.change_recipe(lambda recipe: recipe["generate"].update(teacher={"path": "other/model"}))
        with pytest.raises(ServerStartError, match="other/model does not start"):
            look(workshop, run=True)
        assert not [body for body in http.asked if "messages" in body]
    assert "another model is being served" in capsys.readouterr().err


def test_the_same_model_in_files_that_were_touched_is_the_same_teacher(workshop: Workshop) -> None:
    model = workshop.root / "model"
    shutil.copytree(PROJECT_ROOT / "seedling" / "model", model)
    workshop.change_recipe(lambda recipe: recipe["model"].update(path=str(model)))
    with workshop.teacher(writes("hello")):
        os.utime(model / "config.json")
        assert look(workshop, run=True).trials[0].answer == "hello"


def test_a_teacher_that_stops_answering_is_named(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.generate.endpoints.PATIENCE_SECONDS", 0.1)
    with workshop.teacher(writes("hello")) as http:
        http.fault = lambda body: Fault(500)
        http.pages["/v1/models"] = Fault(500)
        monkeypatch.setattr(StandingTeacher, "answers", lambda self: True)
        with pytest.raises(ServerError, match="being served stopped answering") as caught:
            look(workshop, run=True)
    assert caught.value.where == str(workshop.root / "vllm.log")


def test_hostile_text_is_shown_and_obeyed_by_nobody(workshop: Workshop) -> None:
    (workshop.root / "some.json").write_text(json.dumps({"topic": HOSTILE}), encoding="utf-8")
    with workshop.teacher(writes(HOSTILE)):
        shown = look(workshop, documents=str(workshop.root / "some.json"), run=True)
    text = printed(shown)
    assert "[bold]x[/bold]" in text and "\\x1b[31mred" in text and "\\u202e" in text
    assert "\x1b[31mred" not in text and "\u202e" not in text and "\x00" not in text


def test_a_template_with_faults_shows_them_and_fails(workshop: Workshop) -> None:
    workshop.edit("{{ tone }}", "{{ tune }}")
    found = template_faults(workshop.template, workshop.recipe, "example")
    assert {finding.code for finding in found.findings} >= {"undeclared"}
    arguments = ["prompts", "preview", str(workshop.template), "--recipe", workshop.recipe]
    done = retune(workshop.home.root, *arguments)
    assert done.returncode == 1 and f"{workshop.template}:13:" in done.stdout and "'tune'" in done.stdout
    done = retune(workshop.home.root, *arguments, "--json")
    assert done.returncode == 1 and json.loads(done.stdout)["findings"]


def test_a_missing_example_matters_only_where_it_is_used(workshop: Workshop) -> None:
    (workshop.prompts / "examples" / "write_message.json").unlink()
    assert template_faults(workshop.template, workshop.recipe, "example").errors == 1
    assert template_faults(workshop.template, workshop.recipe, str(workshop.documents)).errors == 0
    with pytest.raises(PromptError, match="no example") as caught:
        look(workshop)
    assert "--documents recipe" in caught.value.remedy


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("none.json", None, "No such file"),
        ("bad.json", "{", "cannot be read"),
        ("list.json", "[1]", "not an object"),
        ("rows.txt", "topic", "is not supported"),
        ("lines.jsonl", '{"topic": 1}\n\n{', "cannot be read: line 3 is not valid JSON"),
        ("table.parquet", "no parquet", "cannot be read"),
        ("latin.csv", "topic\ncaf\xe9", "cannot be read"),
        ("other.csv", "subject\ncards", "has all fields"),
    ],
)
def test_documents_that_cannot_be_used_are_named(
    workshop: Workshop, name: str, content: str | None, complaint: str
) -> None:
    if content is not None:
        (workshop.root / name).write_text(content, encoding="latin-1")
    with pytest.raises(SourceError, match=complaint) as caught:
        look(workshop, documents=str(workshop.root / name))
    assert name in caught.value.where


def test_documents_that_the_template_does_not_apply_to_are_counted(
    workshop: Workshop, capsys: pytest.CaptureFixture[str]
) -> None:
    workshop.documents.write_text('{"subject": "cards"}\n{"topic": "bills"}', encoding="utf-8")
    look(workshop, documents=str(workshop.documents))
    assert "skipped 1 of the rows of" in capsys.readouterr().err


def test_the_command_prints_one_json_object(workshop: Workshop) -> None:
    with workshop.teacher(writes(HOSTILE)):
        arguments = ["prompts", "preview", str(workshop.template), "--recipe", workshop.recipe, "--run", "--json"]
        done = retune(workshop.home.root, *arguments)
    assert done.returncode == 0 and done.stdout.count("\n") == 1 and done.stdout.isascii()
    assert [trial["answer"] for trial in json.loads(done.stdout)["trials"]] == [HOSTILE, HOSTILE]


@pytest.mark.parametrize("others", [5, None, "text", [1], {"message": "one"}])
def test_few_shot_examples_that_are_no_list_of_objects_are_a_clear_error(workshop: Workshop, others: object) -> None:
    workshop.edit("  topic: {from: document}", "  others: {from: few_shot, fields: [message]}")
    workshop.edit("{{ topic }}", "{{ others }}")
    path = workshop.prompts / "examples" / "write_message.json"
    path.write_text(json.dumps({"unknown": 1, "others": others, "tone": "calm"}), encoding="utf-8")
    with pytest.raises(PromptError, match="'others' is not a list of objects") as caught:
        find_documents("example", read_prompt(workshop.template), read_recipe(workshop.recipe), workshop.home, 3)
    assert caught.value.where.startswith(f"{path}:1:")


def test_a_document_that_no_file_can_hold_is_named(workshop: Workshop) -> None:
    workshop.documents.write_text('{"document_id": "\\ud800", "topic": "cards"}', encoding="utf-8")
    with pytest.raises(SourceError, match="surrogate"):
        look(workshop, documents=str(workshop.documents))
