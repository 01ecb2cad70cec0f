"""Every command in a message can be pasted: the command line knows it, and it names recipe and RETUNE_HOME."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import typer.main

from flows.report.record import RunRecord, read_record
from retune.main import app
from tasks.core.errors import RecipeError
from tasks.core.home import DEFAULT_HOME, PROJECT_ROOT, Home, recipe_in_messages, recipe_of_night

PACKAGES = ("flows", "retune", "tasks")
MARK = "X"
"""Stands for a value in an f-string or a call."""


def parses(words: list[str]) -> bool:
    """Whether the command line takes the words; nothing is run."""
    command: Any = typer.main.get_command(app)
    context = click.Context(command)
    while isinstance(command, click.Group):
        name, found, words = command.resolve_command(context, words)
        assert found is not None
        command, context = found, click.Context(found, info_name=name, parent=context)
    command.make_context(str(context.info_name), words, parent=context.parent)
    return True


def calls() -> Iterator[tuple[str, list[str], bool]]:
    """Each call of a method ``command`` in the code: its place, its words, and whether it names a recipe."""
    for package in PACKAGES:
        for path in sorted((PROJECT_ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "command":
                    words: list[Any] = [one.value if isinstance(one, ast.Constant) else MARK for one in node.args]
                    keywords = {one.arg for one in node.keywords}
                    if words and all(isinstance(word, str) for word in words) and keywords <= {"recipe"}:
                        yield f"{path.relative_to(PROJECT_ROOT)}:{node.lineno}", words, "recipe" in keywords


CALLS = [call for call in calls() if call[1] != [MARK] and not call[1][0].startswith("-")]
TAKES_A_RECIPE = {"run", "plan", "rollback", "serve-teacher", "preview", "diff"}


@pytest.mark.parametrize(("place", "words", "has_recipe"), CALLS, ids=[call[0] for call in CALLS])
def test_a_command_of_a_message_is_one_of_the_command_line(place: str, words: list[str], has_recipe: bool) -> None:
    if MARK in words[1:2]:
        return  # its words come from a table
    assert parses([*words, *(["--recipe", MARK] if has_recipe else [])])
    assert has_recipe or not TAKES_A_RECIPE & {*words[:2]}, f"{place} does not name its recipe"


def test_no_message_spells_a_command_out_without_naming_recipe_and_home() -> None:
    """``home.command`` writes them all; docstrings, help texts and file heads are not messages."""
    spelled = re.compile(
        r"retune (run|report|plan|check|export|doctor|up|rollback|serve-teacher|prompts|contracts|quarantine)\b"
    )
    found = []
    for package in PACKAGES:
        for path in sorted((PROJECT_ROOT / package).rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            documented = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
            helps = {
                id(one.value)
                for node in ast.walk(tree)
                if isinstance(node, ast.Call)
                for one in node.keywords
                if one.arg == "help"
            }
            for node in ast.walk(tree):
                if (
                    isinstance(node, ast.Constant)
                    and isinstance(node.value, str)
                    and id(node) not in documented | helps
                ):
                    found += [f"{path.relative_to(PROJECT_ROOT)}:{node.lineno}"] * bool(spelled.search(node.value))
    assert found == []


def test_a_command_names_the_home_unless_it_is_the_default_and_can_be_pasted(tmp_path: Path) -> None:
    home = Home(tmp_path / "my home")
    line = home.command("run", recipe="my recipes/a.yaml")
    place, *words = shlex.split(line)
    assert place == f"RETUNE_HOME={home.root}" and words == ["retune", "run", "--recipe", "my recipes/a.yaml"]
    assert Home(DEFAULT_HOME).command("report") == "retune report"


def test_a_stage_knows_the_recipe_of_its_night() -> None:
    assert recipe_of_night() is None
    with recipe_in_messages("mine"):
        assert recipe_of_night() == "mine"
    assert recipe_of_night() is None


def test_the_commands_of_a_record_name_its_run_its_home_and_its_recipe(tmp_path: Path) -> None:
    home = Home(tmp_path)
    record = RunRecord.start(home, "mine.yaml", "")
    error = RecipeError("It failed")
    record.fail(error)
    assert error.__notes__[0].endswith(f"RETUNE_HOME={tmp_path} retune report --run {record.run_id}")
    killed = RunRecord.start(home, str(tmp_path / "mine.yaml"), "f" * 6)
    assert str(read_record(home, killed.run_id).error).endswith(
        f"RETUNE_HOME={tmp_path} retune run --recipe {tmp_path}/mine.yaml"
    )
