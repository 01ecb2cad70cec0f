"""Answers outlive the process that asked for them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tasks.core.answer_store import CHUNK, Answer, AnswerStore
from tasks.core.home import PROJECT_ROOT


def answer(name: str, text: str = "text") -> Answer:
    return Answer(name, text, "stop", 3, 4)


def test_an_answer_comes_back_with_the_run_that_asked(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "answers.sqlite"
    with AnswerStore.open(path) as store:
        store.add(answer("a", "züri 🦆"), "run-1")
    with AnswerStore.open(path) as store:
        assert store.find(["a", "b"]) == {"a": Answer("a", "züri 🦆", "stop", 3, 4, "run-1")}


def test_more_ids_than_one_query_takes_are_found(tmp_path: Path) -> None:
    names = [f"id-{number}" for number in range(2 * CHUNK + 1)]
    with AnswerStore.open(tmp_path / "answers.sqlite") as store:
        for name in names[::100]:
            store.add(answer(name), "run")
        assert set(store.find(names)) == set(names[::100])
        assert store.find([]) == {}


def test_a_second_answer_replaces_the_first(tmp_path: Path) -> None:
    with AnswerStore.open(tmp_path / "answers.sqlite") as store:
        store.add(answer("a", "old"), "run-1")
        store.add(answer("a", "new"), "run-2")
        found = store.find(["a"])["a"]
        assert (found.text, found.run_id) == ("new", "run-2")


def test_committed_answers_survive_a_killed_process(tmp_path: Path) -> None:
    path = tmp_path / "answers.sqlite"
    program = (
        "import os, signal\nfrom pathlib import Path\nfrom tasks.core.answer_store import Answer, AnswerStore\n"
        f"with AnswerStore.open(Path({str(path)!r})) as store:\n"
        "    for number in range(5): store.add(Answer(f'id-{number}', 't', 'stop', 1, 1), 'killed')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(PROJECT_ROOT)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    with AnswerStore.open(path) as store:
        assert len(store.find(f"id-{number}" for number in range(9))) == 5
