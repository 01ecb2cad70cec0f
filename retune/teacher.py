"""``retune serve-teacher``: serve a recipe's teacher until Ctrl-C, so that trying a template takes seconds.

``RETUNE_HOME/teacher.json`` describes the server; only its owner can read the file, because it holds the server's key.
The serving process holds ``teacher.lock``; a killed process loses the lock, so a file without a lock is left over. A
nightly run never uses this server: it starts its own, and shares only the stored answers, whose ids name their engine.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx
from filelock import FileLock, Timeout

from flows.night.jobs import generate_job
from flows.recipe.recipe import Recipe
from tasks.core.artifacts import ArtifactRef
from tasks.core.child_logs import cause_in
from tasks.core.config import ModelSource
from tasks.core.errors import BusyError, RecipeError, ServerError
from tasks.core.files import digest_of
from tasks.core.home import Home
from tasks.core.models import check_model
from tasks.core.progress import say
from tasks.core.vllm.server import BASE_NAME, serving
from tasks.generate.endpoints import ADAPTER_NAME
from tasks.generate.generate import GenerateJob
from tasks.generate.request_plan import Teacher

POLL_SECONDS = 1.0
ANSWER_SECONDS = 5.0
"""How long a running server may take to name its models, even if it is busy."""
LOCK_SECONDS = 2.0
"""Longer than another command holds the lock to remove a left-over file."""


@dataclass(frozen=True)
class StandingTeacher:
    """A teacher that is being served.

    Attributes:
        url: base URL, without ``/v1``.
        model, model_digest: the teacher as the recipe names it, and its revision.
        engine: name and version of the server software, and the settings that shape its answers.
    """

    url: str
    api_key: str
    pid: int
    model: str
    model_digest: str
    fingerprint: str
    engine: str
    served_name: str
    log: str

    @property
    def teacher(self) -> Teacher:
        """The teacher as request plans name it, with the engine that it was started with."""
        return Teacher(self.model, self.model_digest, self.engine)

    def answers(self) -> bool:
        """Whether a server at its URL accepts its key and serves its model."""
        try:
            answer = httpx.get(
                f"{self.url}/v1/models",
                headers={"Authorization": f"Bearer {self.api_key}"},
                timeout=ANSWER_SECONDS,
                trust_env=False,
            )
            return any(model["id"] == self.served_name for model in answer.json()["data"])
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError):
            return False


def served_model(recipe: Recipe) -> ModelSource:
    """The model of a recipe's teacher, if the recipe names no endpoints."""
    return _job(recipe).served


def recipe_teacher(recipe: Recipe) -> Teacher:
    """A recipe's teacher; a local model's files are read for its digest."""
    return _job(recipe).teacher


def _job(recipe: Recipe) -> GenerateJob:
    if recipe.generate is None:
        raise RecipeError(
            f"The recipe {recipe.name} generates nothing, so it has no teacher",
            where="generate",
            remedy="name another with --recipe",
        )
    return generate_job(recipe, ArtifactRef("collect", "", "", "", 0))  # the teacher does not depend on documents


def fingerprint(recipe: Recipe) -> str:
    """A digest of the names, sizes and times of the teacher's files, without reading gigabytes."""
    served = served_model(recipe)
    assert recipe.generate is not None
    folders = [Path(folder) for folder in (served.path if served.is_local else None, recipe.generate.adapter) if folder]
    files = [(str(file), file.stat()) for folder in folders for file in sorted(folder.rglob("*")) if file.is_file()]
    return digest_of([served.path, served.revision, [(name, at.st_size, at.st_mtime_ns) for name, at in files]])


def serve_teacher(recipe: Recipe, home: Home) -> None:
    """Serve a recipe's teacher until interrupted.

    Raises:
        RecipeError: the recipe generates nothing, or uses remote endpoints.
        BusyError: a teacher is being served already in this RETUNE_HOME.
        ServerError: vLLM died.
        ModelError, MachineError, ServerStartError: it could not be started.
    """
    served, config = served_model(recipe), recipe.generate
    assert config is not None
    if config.endpoints:
        raise RecipeError(
            f"The recipe {recipe.name} uses remote endpoints: there is no teacher to start",
            where="generate.endpoints",
            remedy="preview and diff ask them directly",
        )
    check_model(served)
    teacher, files = recipe_teacher(recipe), fingerprint(recipe)
    adapters = {ADAPTER_NAME: Path(config.adapter)} if config.adapter else None
    log = home.logs / "serve-teacher.log"
    with _sole(home, LOCK_SECONDS), serving(served, config.server, log=log, adapters=adapters) as server:
        standing = StandingTeacher(
            url=server.url,
            api_key=server.api_key,
            pid=os.getpid(),
            model=teacher.name,
            model_digest=teacher.digest,
            fingerprint=files,
            engine=teacher.engine,
            served_name=ADAPTER_NAME if adapters else BASE_NAME,
            log=str(server.log),
        )
        with announced(home, standing):
            say(f"serving {teacher.name} of the recipe {recipe.name} on {server.url}; Ctrl-C ends it")
            for words in (("preview", "NAME", "--run"), ("diff", "NAME")):
                say(f"from another shell: {home.command('prompts', *words, recipe=recipe.reference)}")
            with contextlib.suppress(KeyboardInterrupt):
                while server.process.poll() is None:
                    time.sleep(POLL_SECONDS)
                raise ServerError(f"vLLM died; {cause_in(server.log)}", where=str(server.log), remedy="start it again")
    say("ended")


def state_file(home: Home) -> Path:
    """The file that describes the served teacher."""
    return home.root / "teacher.json"


def standing_teacher(home: Home) -> StandingTeacher | None:
    """The teacher that ``retune serve-teacher`` serves, if it answers; a left-over file is removed."""
    try:
        written = state_file(home).read_bytes()
    except OSError:  # there is no file, or another user owns it
        return None
    with contextlib.suppress(ValueError, TypeError):
        found = StandingTeacher(**json.loads(written))
        if found.answers():
            return found
    with contextlib.suppress(BusyError), _sole(home, 0):
        state_file(home).unlink(missing_ok=True)
    return None


@contextlib.contextmanager
def announced(home: Home, teacher: StandingTeacher) -> Iterator[None]:
    """Write the teacher's file, which only its owner can read, while the block runs."""
    path = state_file(home)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".teacher-", encoding="utf-8", delete=False) as file:
        json.dump(asdict(teacher), file, indent=2)  # the temporary file was made with mode 0600
        file.flush()
        os.fsync(file.fileno())
    Path(file.name).replace(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _sole(home: Home, seconds: float) -> Iterator[None]:
    """Hold the lock of the serving process; give up after so many seconds."""
    home.root.mkdir(parents=True, exist_ok=True)
    lock = FileLock(home.root / "teacher.lock")
    try:
        lock.acquire(timeout=seconds)
    except Timeout as error:
        raise BusyError(
            "A teacher is being served already, or is just starting",
            where=str(state_file(home)),
            remedy="use that one, or end it with Ctrl-C where it runs, then start this one",
        ) from error
    try:
        yield
    finally:
        lock.release()
