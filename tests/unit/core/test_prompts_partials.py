"""Includes and macros: only files in ``partials/`` beside the prompt, and everything in them counts as the prompt's."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

from tasks.core.home import PROJECT_ROOT
from tasks.core.prompts import Finding, Prompt, check_prompt, parse_prompt, read_prompt
from tasks.core.prompts.rendering import Renderer

HEAD = "---\nname: ask\nversion: 1\npurpose: Ask.\nvariables: [topic]\n---\nuser:\n"


def write(folder: Path, body: str, **partials: str) -> Path:
    path = folder / "ask.md"
    path.write_text(f"{HEAD}{body}\n", encoding="utf-8")
    (folder / "partials").mkdir(exist_ok=True)
    for name, text in partials.items():
        (folder / "partials" / f"{name}.md").write_text(text, encoding="utf-8")
    return path


def rendered_text(prompt: Prompt, **values: object) -> str:
    with Renderer() as renderer:
        (rendered,) = renderer.render(prompt, [values])
    assert rendered.messages is not None, rendered.problem
    return rendered.messages[-1]["content"]


def fault(path: Path) -> Finding:
    (finding,) = check_prompt(path)[1]
    return finding


def test_includes_and_macros_are_rendered_and_belong_to_the_prompt(tmp_path: Path) -> None:
    body = (
        '{% from "partials/words.md" import quoted %}{% import "partials/words.md" as words %}'
        '{% include "partials/outer.md" %} {{ quoted(topic) }} {{ words.quoted("x") }}'
    )
    path = write(
        tmp_path,
        body,
        words='{% macro quoted(text) %}"{{ text }}"{% endmacro %}',
        outer='[{% include "partials/inner.md" %}]\n',
        inner="about {{ topic }}",
        unused="nobody names me",
    )
    prompt = read_prompt(path)
    assert [name for name, _ in prompt.partials] == ["partials/inner.md", "partials/outer.md", "partials/words.md"]
    assert rendered_text(prompt, topic="cards") == '[about cards] "cards" "x"'


def test_the_digest_covers_every_partial_that_is_named_and_no_other(tmp_path: Path) -> None:
    def digest(**partials: str) -> str:
        files = {"outer": '{% include "partials/inner.md" %}', "inner": "x", "other": "x", **partials}
        return read_prompt(write(tmp_path, '{{ topic }}{% include "partials/outer.md" %}', **files)).digest

    assert digest() == digest(other="y")
    assert len({digest(), digest(inner="y"), digest(outer='{% include "partials/inner.md" %}!')}) == 3


def test_a_variable_that_only_a_partial_uses_is_used(tmp_path: Path) -> None:
    assert check_prompt(write(tmp_path, '{% include "partials/a.md" %}', a="{{ topic }}"))[1] == []


def test_an_undeclared_variable_of_a_partial_is_reported_in_the_partial(tmp_path: Path) -> None:
    finding = fault(write(tmp_path, '{{ topic }}{% include "partials/a.md" %}', a="first\nand {{ topik }}"))
    assert (finding.code, finding.where) == ("undeclared", f"{tmp_path / 'partials' / 'a.md'}:2:8")


def test_what_the_template_sets_is_known_to_what_it_includes(tmp_path: Path) -> None:
    body = '{% set mood = "calm" %}{% for word in topic %}{% include "partials/a.md" %}{% endfor %}'
    prompt = read_prompt(write(tmp_path, body, a="{{ word }}={{ mood }} "))
    assert rendered_text(prompt, topic=["x", "y"]) == "x=calm y=calm"


def test_a_macro_sees_only_its_arguments(tmp_path: Path) -> None:
    macro = "{% macro greet() %}about {{ topic }}{% endmacro %}"
    finding = fault(write(tmp_path, '{% from "partials/a.md" import greet %}{{ greet() }}{{ topic }}', a=macro))
    assert finding.code == "undeclared" and "arguments" in finding.what and finding.where.endswith("a.md:1:29")
    shared = write(tmp_path, '{% from "partials/a.md" import greet with context %}{{ greet() }}', a=macro)
    assert rendered_text(read_prompt(shared), topic="cards") == "about cards"


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ('"partials/../secret.md"', "partial-name"),
        ('"../secret.md"', "partial-name"),
        ('"/etc/hostname"', "partial-name"),
        ('"other.md"', "partial-name"),
        ('"partials/"', "partial-name"),
        ("topic", "partial-name"),
        ('["partials/a.md", "partials/b.md"]', "partial-name"),
        ('"partials/" ~ topic', "partial-name"),
        ('"partials/none.md"', "partial-missing"),
        ('"partials/none.md" ignore missing', "partial-missing"),
        ('"partials/link.md"', "partial-missing"),
        ('"partials/way_out/secret.md"', "partial-missing"),
        ('"partials/binary.md"', "partial-encoding"),
        ('"partials/loop.md"', "partial-cycle"),
        ('"partials/broken.md"', "jinja-syntax"),
    ],
)
def test_an_include_that_is_not_a_partial_is_reported_and_reads_nothing(tmp_path: Path, name: str, code: str) -> None:
    folder = tmp_path / "prompts"
    folder.mkdir()
    (tmp_path / "secret.md").write_text("the secret", encoding="utf-8")
    path = write(
        folder,
        f"{{{{ topic }}}}\n{{% include {name} %}}",
        loop='{% include "partials/again.md" %}',
        again='\n{% include "partials/loop.md" %}',
        broken="x {{ }}",
    )
    (folder / "other.md").write_text("a prompt", encoding="utf-8")
    (folder / "partials" / "binary.md").write_bytes(b"\xff\xfe")
    (folder / "partials" / "link.md").symlink_to(tmp_path / "secret.md")
    (folder / "partials" / "way_out").symlink_to(tmp_path, target_is_directory=True)
    finding = fault(path)
    assert finding.code == code
    expected = {"partial-cycle": ("again.md", 2), "jinja-syntax": ("broken.md", 1)}.get(code, ("ask.md", 9))
    assert (Path(finding.path).name, finding.line) == expected


def test_a_text_that_is_no_file_brings_its_own_partials(tmp_path: Path) -> None:
    """As another revision of a prompt does."""
    old = {"partials/a.md": "as it was: {{ topic }}"}
    text = f'{HEAD}{{% include "partials/a.md" %}}\n'
    prompt, findings = parse_prompt(text, tmp_path / "ask.md", old.__getitem__)
    assert prompt is not None and not findings
    assert rendered_text(prompt, topic="cards") == "as it was: cards"


def test_the_documentations_worked_example_works(tmp_path: Path) -> None:
    page = (PROJECT_ROOT / "docs" / "prompts.md").read_text(encoding="utf-8")
    text, partial, example = re.findall(r"^```(?:json)?\n(.*?)^```", page, re.DOTALL | re.MULTILINE)[:3]
    (tmp_path / "partials").mkdir()
    (tmp_path / "partials" / "asking.md").write_text(partial, encoding="utf-8")
    path = tmp_path / "moody_message.md"
    path.write_text(text, encoding="utf-8")
    assert check_prompt(path)[1] == []
    assert rendered_text(read_prompt(path), **json.loads(example)).splitlines() == [
        "Other customers wrote:",
        "- where is my card",
        "- my card was stolen",
        "",
        "Write a new message of one sentence, in other words than those above. It is about: lost card. "
        "The customer is worried.",
    ]


def test_partials_that_include_the_next_one_twice_are_read_in_no_time(tmp_path: Path) -> None:
    twice = {f"p{number}": f'{{% include "partials/p{number + 1}.md" %}}' * 2 for number in range(24)}
    path = write(tmp_path, '{% include "partials/p0.md" %}', **twice, p24="{{ topic }}")
    started = time.process_time()
    assert check_prompt(path)[1] == []
    assert time.process_time() - started < 2


def test_partials_may_not_nest_without_end(tmp_path: Path) -> None:
    chain = {f"p{number}": f'{{% include "partials/p{number + 1}.md" %}}' for number in range(1200)}
    path = write(tmp_path, '{{ topic }}{% include "partials/p0.md" %}', **chain, p1200="x")
    assert "50 deep" in fault(path).what


def test_a_partial_whose_name_is_not_text_is_reported(tmp_path: Path) -> None:
    assert fault(write(tmp_path, r'{{ topic }}{% include "partials/\ud800.md" %}')).code == "partial-name"
