"""The teacher that `retune serve-teacher` keeps: who may know of it, who finds it, and what becomes of left-overs."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from flows.recipe.read import read_recipe
from retune import teacher as teacher_module
from retune.teacher import StandingTeacher, announced, recipe_teacher, serve_teacher, standing_teacher, state_file
from tasks.core.errors import BusyError, RecipeError, ServerError
from tasks.core.home import PROJECT_ROOT, Home
from tasks.core.vllm.server import Server
from tests.openai_stand_in import MODEL, Fault, stand_in
from tests.retune.workshop import Workshop, workshop, writes

__all__ = ["workshop"]
GONE = StandingTeacher("http://127.0.0.1:9", "key", 1, "model", "digest", "files", "engine", "base", "log")


def test_the_state_file_is_for_its_owner_alone_and_goes_with_the_server(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with announced(home, GONE):
        file = state_file(home)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert json.loads(file.read_text(encoding="utf-8")) == dataclasses.asdict(GONE)
    assert list(tmp_path.iterdir()) == []


def test_a_served_teacher_is_found(workshop: Workshop) -> None:
    with workshop.teacher(writes("hello")) as http:
        found = standing_teacher(workshop.home)
        assert found is not None and found.served_name == "base"
        assert http.got == ["/v1/models"]
    assert standing_teacher(workshop.home) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"url": 1}', json.dumps({**dataclasses.asdict(GONE)}), "\xff"])
def test_a_file_that_a_killed_one_left_is_ignored_and_removed(tmp_path: Path, text: str) -> None:
    state_file(Home(tmp_path)).write_text(text, encoding="latin-1")
    assert standing_teacher(Home(tmp_path)) is None
    assert not state_file(Home(tmp_path)).exists()


def test_the_file_of_one_that_is_too_busy_to_answer_stays(tmp_path: Path) -> None:
    with FileLock(tmp_path / "teacher.lock"), announced(Home(tmp_path), GONE):
        assert standing_teacher(Home(tmp_path)) is None
        assert state_file(Home(tmp_path)).exists()


def test_another_model_on_the_port_is_not_the_teacher(workshop: Workshop) -> None:
    with workshop.teacher(writes("hello")) as http:
        http.pages["/v1/models"] = Fault(200, json.dumps({"data": [{**MODEL, "id": "other"}]}))
        assert standing_teacher(workshop.home) is None


def test_a_second_one_says_that_one_is_there(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher_module, "LOCK_SECONDS", 0.0)
    workshop.home.root.mkdir()
    with FileLock(workshop.home.root / "teacher.lock"), pytest.raises(BusyError, match="served already"):
        serve_teacher(read_recipe(workshop.recipe), workshop.home)


def test_there_is_nothing_to_serve_for_endpoints_or_without_generation(workshop: Workshop) -> None:
    recipe = read_recipe(workshop.recipe)
    endpoint = {"url": "http://127.0.0.1:9/v1", "model": "m"}
    workshop.change_recipe(lambda recipe: recipe["generate"].update(endpoints=[endpoint]))
    with pytest.raises(RecipeError, match="remote endpoints"):
        serve_teacher(read_recipe(workshop.recipe), workshop.home)
    with pytest.raises(RecipeError, match="generates nothing"):
        serve_teacher(recipe.model_copy(update={"generate": None}), workshop.home)
    assert not workshop.home.root.exists()


@pytest.fixture
def stand_in_for_vllm(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """`serving` hands out a stand-in in place of starting vLLM."""
    with stand_in(workshop.root, writes("hello")) as (server, http):
        http.pages["/v1/models"] = Fault(200, json.dumps({"data": [MODEL]}))
        monkeypatch.setattr(teacher_module, "serving", lambda *_, **__: contextlib.nullcontext(server))
        yield server


def test_it_serves_until_interrupted(
    workshop: Workshop, stand_in_for_vllm: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[StandingTeacher | None] = []

    def interrupt(seconds: float) -> None:
        seen.append(standing_teacher(workshop.home))
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupt)
    recipe = read_recipe(workshop.recipe)
    serve_teacher(recipe, workshop.home)
    teacher = recipe_teacher(recipe)
    assert seen[0] is not None and seen[0].pid == os.getpid()
    assert (seen[0].model_digest, seen[0].engine) == (teacher.digest, teacher.engine)
    assert not state_file(workshop.home).exists()


def test_a_server_that_dies_ends_it_with_the_last_lines_of_the_log(
    workshop: Workshop, stand_in_for_vllm: Server
) -> None:
    stand_in_for_vllm.log.write_text("out of memory", encoding="utf-8")
    stand_in_for_vllm.process.kill()
    stand_in_for_vllm.process.wait()
    with pytest.raises(ServerError, match="out of memory"):
        serve_teacher(read_recipe(workshop.recipe), workshop.home)
    assert not state_file(workshop.home).exists()


FAKE_VLLM = """#!{python}
import http.server, json, sys

class Models(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({{"data": [{{"id": "base", "owned_by": "vllm"}}]}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.HTTPServer(("127.0.0.1", port), Models).serve_forever()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_ends_its_server_and_removes_its_file_on_either_signal(workshop: Workshop, number: int) -> None:
    python = Path(os.environ["RETUNE_VLLM_PYTHON"])
    python.write_text(FAKE_VLLM.format(python=sys.executable), encoding="utf-8")
    python.chmod(0o755)
    command = [sys.executable, "-m", "retune", "serve-teacher", "--recipe", workshop.recipe]
    with subprocess.Popen(command, cwd=PROJECT_ROOT, stderr=subprocess.PIPE, text=True) as process:
        try:
            deadline = time.monotonic() + 60
            while (found := standing_teacher(workshop.home)) is None and time.monotonic() < deadline:
                time.sleep(0.2)
            assert found is not None and found.pid == process.pid
            process.send_signal(number)
            _, errors = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 0 and errors.endswith("ended\n")
    assert not state_file(workshop.home).exists() and not found.answers()
