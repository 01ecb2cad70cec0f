"""Where templates are tried: a folder under Git with a recipe, templates, documents and a teacher of a few lines."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.recipe.read import read_recipe
from retune.teacher import StandingTeacher, announced, fingerprint, recipe_teacher
from tasks.core.home import PROJECT_ROOT, Home
from tests.openai_stand_in import MODEL, Chat, Fault, StandIn, stand_in

WRITE = """---
name: write_message
version: 1
purpose: Write a customer's message.
variables:
  topic: {from: document}
  tone: {from: sampler, values: [calm, cross, hurried]}
output: {format: text, field: message}
sampling: {temperature: 1, max_tokens: 48}
rows_per_document: 2
---
user:
Write a TONE message about TOPIC.
""".replace("TONE", "{{ tone }}").replace("TOPIC", "{{ topic }}")
CHECK = """---
name: check_message
version: 1
purpose: Check a message.
variables: [message]
output: {format: text, field: verdict}
judge: {accept: ^yes}
sampling: {temperature: 0, max_tokens: 4}
---
user:
Is it good? {{ message }}
"""
TOPICS = [f"topic {number}" for number in range(12)]


class Workshop:
    """The folder and what is in it."""

    def __init__(self, root: Path) -> None:
        self.root, self.prompts = root, root / "prompts"
        self.home = Home(root / "home")
        self.template = self.prompts / "write_message.md"
        self.documents = root / "documents.jsonl"
        self.recipe = str(root / "mine.yaml")

    def build(self) -> None:
        """Write it all, and commit it."""
        (self.prompts / "examples").mkdir(parents=True)
        self.template.write_text(WRITE, encoding="utf-8")
        (self.prompts / "check_message.md").write_text(CHECK, encoding="utf-8")
        examples = {"write_message": {"topic": "a lost card", "tone": "calm"}, "check_message": {"message": "Hello"}}
        for name, example in examples.items():
            (self.prompts / "examples" / f"{name}.json").write_text(json.dumps(example), encoding="utf-8")
        rows = [{"document_id": f"d{number}", "topic": topic} for number, topic in enumerate(TOPICS)]
        self.documents.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        lines = [f"{number},hello {number},cards,{topic}" for number, topic in enumerate(TOPICS)]
        (self.root / "messages.csv").write_text("\n".join(["id,message,queue,topic", *lines]), encoding="utf-8")
        recipe = yaml.safe_load((PROJECT_ROOT / "deployments" / "recipes" / "embedded.yaml").read_text())
        recipe["model"]["path"] = str(PROJECT_ROOT / "seedling" / "model")
        recipe["collect"]["sources"] = [{"path": "messages.csv"}]
        recipe["generate"] |= {"prompts": ["prompts/write_message.md"], "judges": ["prompts/check_message.md"]}
        Path(self.recipe).write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
        self.git("init", "--quiet", "--initial-branch=main")
        self.commit("The first templates")

    def git(self, *arguments: str) -> None:
        author = {f"GIT_{who}_{what}": "a@b.c" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        subprocess.run(["git", *arguments], cwd=self.root, env={**os.environ, **author}, check=True)

    def commit(self, message: str) -> None:
        self.git("add", "prompts")
        self.git("commit", "--quiet", "-m", message)

    def edit(self, before: str, after: str) -> None:
        """Change the template's text."""
        text = self.template.read_text(encoding="utf-8")
        assert before in text
        self.template.write_text(text.replace(before, after), encoding="utf-8")

    def change_recipe(self, change: Callable[[dict[str, Any]], Any]) -> None:
        path = Path(self.recipe)
        recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
        change(recipe)
        path.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")

    @contextlib.contextmanager
    def teacher(self, chat: Chat) -> Iterator[StandIn]:
        """A stand-in, announced as `retune serve-teacher` announces the teacher of the recipe."""
        self.home.root.mkdir(exist_ok=True)
        recipe = read_recipe(self.recipe)
        teacher = recipe_teacher(recipe)
        with stand_in(self.root, chat) as (server, http):
            http.pages["/v1/models"] = Fault(200, json.dumps({"object": "list", "data": [MODEL]}))
            standing = StandingTeacher(
                url=server.url,
                api_key=server.api_key,
                pid=os.getpid(),
                model=teacher.name,
                model_digest=teacher.digest,
                fingerprint=fingerprint(recipe),
                engine="stand-in 1",
                served_name="base",
                log=str(server.log),
            )
            with announced(self.home, standing):
                yield http


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """A workshop of its own, on a machine that seems to have vLLM."""
    environment = tmp_path / "vllm"
    (environment / "bin").mkdir(parents=True)
    (environment / "bin" / "python").touch()
    (environment / "lib" / "python3.11" / "site-packages" / "vllm-0.1.dist-info").mkdir(parents=True)
    monkeypatch.setenv("RETUNE_VLLM_PYTHON", str(environment / "bin" / "python"))
    monkeypatch.setenv("RETUNE_HOME", str(tmp_path / "home"))
    built = Workshop(tmp_path)
    built.build()
    return built


def writes(text: str, verdict: str = "yes") -> Chat:
    """A teacher that writes one text to every request, and as a judge says one verdict."""

    def chat(model: str, messages: list[dict[str, str]]) -> tuple[str, str]:
        return (verdict if messages[-1]["content"].startswith("Is it good?") else text), "stop"

    return chat
