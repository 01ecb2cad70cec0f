"""The command as users start it: results on stdout, an error as one message on stderr, and an exit status."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tasks.core.home import PROJECT_ROOT, Home
from tasks.core.lock import run_lock
from tests.flows.conftest import WriteRecipe
from tests.flows.whole_night import comparison, record_night, version
from tests.retune.command import retune, retune_process


def test_an_error_is_one_message_with_place_and_remedy_and_no_traceback(tmp_path: Path) -> None:
    done = retune_process(tmp_path, "run", "--recipe", "embeded")
    assert done.returncode == 1 and done.stdout == ""
    lines = done.stderr.splitlines()
    assert lines[0] == "error: There is no recipe 'embeded'"
    assert lines[1].startswith("  where:  ") and lines[2].startswith("  remedy: did you mean 'embedded'?")
    assert len(lines) == 3
    assert not list(tmp_path.iterdir()), "a mistyped name is no run"


def test_verbose_shows_the_traceback_too(tmp_path: Path) -> None:
    done = retune(tmp_path, "--verbose", "run", "--recipe", "embeded")
    assert done.returncode == 1
    assert "Traceback (most recent call last)" in done.stderr
    assert "error: There is no recipe 'embeded'" in done.stderr.splitlines()


@pytest.mark.parametrize(
    ("arguments", "name"),
    [(("rnu",), "rnu"), (("run", "--recpie", "x"), "--recpie"), (("up", "--port", "many"), "--port")],
)
def test_a_wrong_command_line_exits_with_2_and_names_what_is_wrong(
    tmp_path: Path, arguments: tuple[str, ...], name: str
) -> None:
    done = retune(tmp_path, *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and name in done.stderr and "retune --help" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_second_run_is_refused_before_anything_is_started_for_it(tmp_path: Path) -> None:
    with run_lock(Home(tmp_path)):
        before = sorted(tmp_path.iterdir())
        done = retune(tmp_path, "run")
        assert sorted(tmp_path.iterdir()) == before
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith(f"error: Another run is under way: process {os.getpid()} on ")


def test_a_home_that_cannot_be_used_is_refused_by_every_command(tmp_path: Path) -> None:
    for arguments in (("run",), ("report",), ("up",)):
        done = retune(tmp_path / "what?", *arguments)
        assert done.returncode == 1 and done.stderr.startswith("error: RETUNE_HOME cannot be this folder: its path con")
        assert "what?" in done.stderr and "remedy: name another folder" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_prefect_server_that_does_not_answer_is_one_error_with_a_remedy(
    tmp_path: Path, write_recipe: WriteRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retune.run.check_before_start", lambda recipe, home: None)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/api"
        monkeypatch.setenv("PREFECT_API_URL", url)
        done = retune(tmp_path / "home", "run", "--recipe", write_recipe(lambda recipe: None))
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.startswith("error: No Prefect server answers at PREFECT_API_URL")
    assert f"where:  {url}" in done.stderr and "unset PREFECT_API_URL" in done.stderr


def test_a_broken_recipe_stops_before_anything_is_started(tmp_path: Path, write_recipe: WriteRecipe) -> None:
    path = write_recipe(lambda recipe: recipe["train"].update(learningrate=1))
    done = retune(tmp_path / "fresh", "run", "--recipe", path)
    assert done.returncode == 1
    assert "Unknown key 'train.learningrate'" in done.stderr and f"{path}:" in done.stderr
    assert not (tmp_path / "fresh").exists(), "what has not started leaves no run"


def test_a_check_finds_every_fault_of_a_recipe_and_its_files_and_starts_nothing(
    tmp_path: Path, write_recipe: WriteRecipe
) -> None:
    head = "name: ask\nversion: 1\npurpose: x\nvariables: [message, topic]\noutput: {field: mesage}\n"
    (tmp_path / "ask.md").write_text(f"---\n{head}---\nuser:\n{{{{ message }}}} {{{{ tone }}}}\n", encoding="utf-8")

    def break_it(recipe: dict[str, Any]) -> None:
        recipe["collect"]["columns"]["message"] = "mesage"
        recipe["generate"]["prompts"] = ["ask.md"]
        recipe["task"]["labels"] = ["cards", "account"]

    path = write_recipe(break_it)
    home = tmp_path / "fresh"
    done = retune(home, "check", path)
    assert done.returncode == 1 and done.stdout == "" and not home.exists()
    first, *others = done.stderr.split("also: ")
    assert "no column 'mesage'" in first and "message" in first
    assert [other.splitlines()[0] for other in others][:2] == [
        "The template uses 'tone', which is not declared",
        "The variable 'topic' is declared but never used",
    ]
    (tmp_path / "ask.md").write_text(f"---\n{head}---\nuser:\n{{{{ message }}}} {{{{ topic }}}}\n", encoding="utf-8")
    done = retune(home, "check", path)
    assert "copies of their documents" in done.stderr and "did you mean 'message'?" in done.stderr
    assert "rejects the task's labels 'account'" in done.stderr and "names 'accounts'" in done.stderr
    planned = retune(home, "plan", "--recipe", path)
    assert planned.returncode == 1 and "no column 'mesage'" in planned.stderr


def test_a_check_of_a_sound_recipe_names_the_command_that_starts_its_night(
    tmp_path: Path, write_recipe: WriteRecipe
) -> None:
    shutil.copytree(PROJECT_ROOT / "seedling" / "model", tmp_path / "model", dirs_exist_ok=True)
    path, home = write_recipe(lambda recipe: None), tmp_path / "a home"
    done = retune(home, "check", path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == f"start one: RETUNE_HOME='{home}' retune run --recipe {path}"
    assert not home.exists()


def test_the_report_is_one_json_object_or_a_page(tmp_path: Path) -> None:
    home = tmp_path / "home [old]"
    record = record_night(Home(home), comparison(), champion=version("2", "router"))
    done = retune(home, "report", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["run_id"] == record.run_id and done.stdout.count("\n") == 1
    done = retune(home, "report", "--run", record.run_id)
    assert done.returncode == 0
    assert "embedded: published" in done.stdout and "champion: router version 2, in /artifacts/2" in done.stdout
    assert "tuned less base" in done.stdout and "80.0%" in done.stdout


def test_brackets_in_names_and_paths_are_printed_as_they_are(tmp_path: Path) -> None:
    record = record_night(Home(tmp_path), comparison(), champion=version("2", "router"))
    record.recipe, record.champion = "my[b]recipe", {"name": "router", "version": "2", "path": "/data/[a]/2"}
    record.write()
    done = retune(tmp_path, "report")
    assert "my[b]recipe: published" in done.stdout and "in /data/[a]/2" in done.stdout


def test_a_report_before_the_first_run_fails_clearly(tmp_path: Path) -> None:
    done = retune(tmp_path / "home", "report", "--json")
    assert done.returncode == 1 and done.stdout == "" and "There is no run yet" in done.stderr


def test_help_names_every_command(tmp_path: Path) -> None:
    done = retune(tmp_path, "--help")
    assert done.returncode == 0
    for command in ("run", "check", "report", "plan", "export", "doctor", "up", "rollback", "serve-teacher", "prompts"):
        assert command in done.stdout


@pytest.mark.parametrize(
    ("arguments", "modules"),
    [
        (("--help",), {"numpy", "pyarrow", "yaml", "jinja2"}),
        (("report",), {"numpy", "pyarrow", "yaml", "jinja2"}),
        (("plan", "--help"), {"numpy", "pyarrow", "yaml", "torch"}),
        (("quarantine", "list"), {"scipy", "openai", "jinja2"}),
    ],
)
def test_a_command_imports_only_what_it_uses(tmp_path: Path, arguments: tuple[str, ...], modules: set[str]) -> None:
    record_night(Home(tmp_path), comparison())
    code = f"""import sys
from tests.retune.command import retune
retune(__import__('pathlib').Path({str(tmp_path)!r}), *{arguments!r})
print(*sorted({{*{modules!r}, 'prefect', 'transformers', 'httpx'}} & {{*sys.modules}}))"""
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
