"""The examples of templates: ``examples/NAME.json`` beside a template, an object of its variables or a list of such."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

import yaml

from retune.prompts.lint_template import LintedTemplate
from tasks.core.prompts import FewShot, Finding, Prompt
from tasks.core.prompts.rendering import Renderer
from tasks.core.suggestions import did_you_mean
from tasks.core.yaml_tree import place_of

Values = Mapping[str, Any]
PLACE = re.compile(r" \(([^()]+):(\d+)\)$")
"""How a renderer ends what it says of a template: with the file and the line."""


def example_path(template: Path) -> Path:
    """Where the example of a template lies."""
    return template.parent / "examples" / f"{template.stem}.json"


def read_examples(template: LintedTemplate) -> tuple[list[Values], list[Finding]]:
    """The values that the examples of a template give its variables, and what is wrong with them.

    Examples that lack a variable, or have no list of objects for a few-shot variable, are left out.
    """
    path, wanted = example_path(template.path), tuple(template.head.variables)
    try:
        text = path.read_bytes().decode("utf-8")
        data = json.loads(text)
    except FileNotFoundError:
        remedy = f"write its variables to {path}: {json.dumps(dict.fromkeys(wanted, '...'), ensure_ascii=False)}"
        place = template.places.find("name")
        return [], [Finding("missing-example", "The template has no example", str(template.path), *place, remedy)]
    except UnicodeDecodeError as error:
        return [], [
            Finding("example-json", f"The example is not UTF-8: {error.reason}", str(path), 1, 1, "save it as UTF-8")
        ]
    except json.JSONDecodeError as error:
        what = f"The example is not valid JSON: {error.msg}"
        return [], [Finding("example-json", what, str(path), error.lineno, error.colno, "correct the JSON")]
    except (OSError, ValueError, RecursionError) as error:
        return [], [Finding("example-json", f"The example cannot be read: {error}", str(path), 1, 1, "write it again")]
    given = data if isinstance(data, list) else [data]
    if not given or not all(isinstance(item, dict) for item in given):
        what = "The example is neither an object nor a list of objects"
        return [], [Finding("example-json", what, str(path), 1, 1, "write a value for each variable: {...}")]
    shown = [name for name, spec in template.head.variables.items() if isinstance(spec, FewShot)]
    fit = [item for item in given if {*wanted} <= {*item} and all(is_shots(item[name]) for name in shown)]
    return fit, [*_wrong_names(path, text, given, wanted), *_wrong_shots(path, text, given, shown)]


def render_examples(
    prompt: Prompt, examples: Sequence[Values], renderer: Renderer
) -> tuple[list[list[dict[str, str]]], list[Finding]]:
    """The conversations that a template makes of its examples, and what it fails on."""
    conversations: list[list[dict[str, str]]] = []
    findings: list[Finding] = []
    for rendered in renderer.render(prompt, examples):
        if rendered.messages is not None:
            conversations.append(rendered.messages)
            continue
        place = PLACE.search(rendered.problem)
        file, line = (str(prompt.path.parent / place[1]), int(place[2])) if place else (str(prompt.path), 1)
        what = f"The template fails on its example: {PLACE.sub('', rendered.problem)}"
        findings.append(Finding("render", what, file, line, 1, f"correct it, or {example_path(prompt.path)}"))
    return conversations, findings


def is_shots(value: Any) -> TypeGuard[list[dict[str, Any]]]:
    """Whether a value can stand for a few-shot variable."""
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _wrong_names(path: Path, text: str, given: list[dict[str, Any]], wanted: tuple[str, ...]) -> Iterator[Finding]:
    places = _places(text)
    for index, item in enumerate(given):
        for name in wanted:
            if name not in item:
                what = f"The example lacks the variable {name!r}"
                yield Finding("example-variable", what, str(path), *places.get((index, None), (1, 1)), f'add "{name}"')
        for name in item:
            if name not in wanted:
                what = f"The example has {name!r}, which the template does not declare"
                remedy = f"{did_you_mean(name, wanted)}remove it, or declare it"
                place = places.get((index, name), (1, 1))
                yield Finding("example-variable", what, str(path), *place, remedy, "warning")


def _wrong_shots(path: Path, text: str, given: list[dict[str, Any]], shown: Sequence[str]) -> Iterator[Finding]:
    places = _places(text)
    for index, item in enumerate(given):
        for name in shown:
            if name in item and not is_shots(item[name]):
                what = f"The few-shot variable {name!r} is not a list of objects"
                remedy = f'write "{name}": [{{...}}, ...], an object for each document shown'
                yield Finding("example-variable", what, str(path), *places.get((index, name), (1, 1)), remedy)


def _places(text: str) -> dict[tuple[int, str | None], tuple[int, int]]:
    """Line and column of each object of an example (None) and of each of its keys; empty where YAML cannot tell."""
    try:
        root = yaml.compose(text)
    except yaml.YAMLError:
        return {}
    objects = root.value if isinstance(root, yaml.SequenceNode) else [root]
    places: dict[tuple[int, str | None], tuple[int, int]] = {}
    for index, node in enumerate(objects):
        places[index, None] = place_of(node)
        for key, _ in node.value:
            places[index, key.value] = place_of(key)
    return places
