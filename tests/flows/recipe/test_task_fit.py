"""A template must write what the task of its recipe reads: a field that it forgets would be a collected value."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from flows.recipe.task_fit import TaskFit
from tasks.core.config import ChatTask
from tasks.core.findings import Finding
from tasks.core.prompts.head import read_head

ROUTING = ChatTask(input="message", output="queue", labels=("cards", "bills"))
ANSWERING = ChatTask(input="question", output="answer")
READS_MESSAGE = "variables: [message]\n"


def findings(head: str, task: ChatTask = ROUTING, used: Collection[str] = ()) -> list[Finding]:
    front, places, faults = read_head(f"name: write\nversion: 1\npurpose: x\n{head}", "write.md")
    assert front is not None and not faults, faults
    return list(TaskFit(Path("write.md"), front, places, task, used).findings())


def json_output(*names: str, **described: Any) -> str:
    properties = ", ".join(f"{name}: {described.get(name, '{type: string}')}" for name in names)
    return f"output:\n  format: json\n  json_schema:\n    type: object\n    properties: {{{properties}}}\n"


@pytest.mark.parametrize(
    ("head", "task"),
    [
        (READS_MESSAGE + "output: {field: message}\n", ROUTING),
        (READS_MESSAGE + "output: {field: queue}\n", ROUTING),
        ("variables: [topic]\noutput: {field: message}\n", ROUTING),
        ("variables: {queue: {from: sampler, values: [cards, bills]}}\noutput: {field: message}\n", ROUTING),
        ("variables: {m: {from: few_shot, fields: [message], same: queue}}\noutput: {field: message}\n", ROUTING),
        ("variables: [passage]\n" + json_output("question", "answer"), ANSWERING),
        ("variables: [question]\noutput: {field: answer}\n", ANSWERING),
        ("variables: [answer]\noutput: {field: question}\n", ANSWERING),
        ("variables: []\n" + json_output("question", "answer", "reasons"), ANSWERING),
    ],
)
def test_a_template_that_writes_what_the_task_reads_passes(head: str, task: ChatTask) -> None:
    assert findings(head, task) == []


@pytest.mark.parametrize("format", ["text", "lines"])
def test_an_output_that_the_task_does_not_read_is_an_error_with_its_place(format: str) -> None:
    (found,) = findings(f"{READS_MESSAGE}output:\n  format: {format}\n  field: mesage\n")
    assert (found.code, found.severity, found.line, found.column) == ("task-field", "error", 8, 10)
    assert "copies of their documents" in found.what and "did you mean 'message'" in found.remedy


def test_a_json_output_of_other_names_is_an_error() -> None:
    (found,) = findings(READS_MESSAGE + json_output("text", "kind"))
    assert found.severity == "error" and "'text', 'kind'" in found.what


@pytest.mark.parametrize(
    ("names", "task"),
    [
        (("Message", "queue"), ROUTING),  # the row would have the document's message, and the queue of another
        (
            ("question", "reply"),
            ANSWERING,
        ),  # the written question, and the document's answer, which the teacher never saw
    ],
)
def test_a_property_that_nothing_reads_beside_a_collected_field_is_an_error(
    names: tuple[str, ...], task: ChatTask
) -> None:
    (found,) = findings("variables: [passage]\n" + json_output(*names), task)
    assert (found.code, found.severity) == ("task-field", "error") and "from their document" in found.what


def test_a_property_that_may_be_meant_for_the_teacher_alone_is_a_warning_unless_a_judge_or_contract_reads_it() -> None:
    head = READS_MESSAGE + json_output("reasons", "queue")
    (found,) = findings(head)
    assert found.severity == "warning" and "'reasons'" in found.what
    assert findings(head, used=["reasons"]) == []


@pytest.mark.parametrize(
    "variables", ["[]", "{tone: {from: sampler, values: [a]}}", "{m: {from: few_shot, fields: [x]}}"]
)
def test_a_field_of_a_document_that_the_teacher_does_not_see_is_an_error(variables: str) -> None:
    (found,) = findings(f"variables: {variables}\noutput: {{field: message}}\n")
    assert found.severity == "error" and "'queue'" in found.what and "shows nothing" in found.what


@pytest.mark.parametrize("allowed", ["{enum: [cards, bill]}", "{const: bill}"])
def test_a_label_that_the_task_lacks_is_an_error_with_the_nearest(allowed: str) -> None:
    found = findings(READS_MESSAGE + json_output("message", "queue", queue=allowed))
    errors = [one for one in found if one.severity == "error"]
    assert [one.code for one in errors] == ["task-label"] and "'bill'" in errors[0].what
    assert "did you mean 'bills'" in errors[0].remedy


def test_a_drawn_label_that_the_task_lacks_is_an_error() -> None:
    found = findings("variables: {queue: {from: sampler, values: [cards, Bills]}}\noutput: {field: message}\n")
    assert [(one.code, one.severity) for one in found] == [("task-label", "error"), ("task-label", "warning")]


def test_labels_that_a_template_leaves_out_are_a_warning() -> None:
    (found,) = findings(READS_MESSAGE + json_output("message", "queue", queue="{enum: [cards]}"))
    assert found.severity == "warning" and "bills" in found.what
