"""A night up to its training set with every real part but the teacher, a stand-in behind a real HTTP server.

Of every way in which a row can be lost, one row is.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from flows.night.jobs import collect_job, documents_job, generate_job, training_set_job, validate_job
from flows.night.preparation import recorded
from flows.recipe.read import read_recipe
from flows.recipe.recipe import Recipe
from flows.report.record import RunRecord
from tasks.core.artifacts import ArtifactRef
from tasks.core.home import PROJECT_ROOT, Home
from tasks.core.stage import StageJob, run_stage
from tasks.generate import generate, own_server
from tasks.validate.check_training_set import Publications
from tests.unit.generate.stage import Teacher
from tests.unit.validate.tables import Row, expectation, write_contract

DOCUMENTS = 12
CUT_OFF, EMPTY, BAD, SHORT, LONG, LEAKED, TWICE, ALSO_TWICE = range(8)
"""Of the training documents, in the order of their ids: what becomes of the row that ``write`` makes of each."""
QUEUES = ("cards", "payroll")
INTERNAL, INTERNAL_HELD_OUT = "msg-92", "msg-90"
"""Documents that break their contract, one of the training documents and one that is held out."""
BETWEEN = "expect_column_value_lengths_to_be_between"
SHORT_RULE, LONG_RULE = "long enough", "short enough"
WRITE = """---
name: write
version: 1
purpose: Write a message.
variables:
  topic: {}
  examples: {from: few_shot, count: 2, fields: [message]}
output: {field: message}
---
system:
You write as {% for one in examples %}"{{ one.message }}", {% endfor %}do.
user:
Write about {{ topic }}.
"""
STRICT = """---
name: strict
version: 1
purpose: Judge a message.
variables: [message]
output: {field: verdict}
judge: {accept: '^yes'}
sampling: {temperature: 0}
---
user:
Is this a good message? {{ message }}
"""


def message_property(least: int = 12, most: int = 60) -> Row:
    """Length limits on both sides, each a rule with a name."""
    limits = {"long enough": {"min_value": least}, "short enough": {"max_value": most}}
    rules = [expectation(BETWEEN, kwargs, name=name) for name, kwargs in limits.items()]
    polite = expectation("expect_column_values_to_match_regex", {"regex": "please"}, name="polite", severity="warning")
    return {"name": "message", "logicalType": "string", "required": True, "quality": [*rules, polite]}


QUEUE_PROPERTY: Row = {"name": "queue", "enum": [{"value": name} for name in QUEUES]}


@dataclass
class SmallNight:
    """A recipe in a folder of its own, its RETUNE_HOME and its teacher."""

    folder: Path
    home: Home
    teacher: Teacher

    @property
    def recipe_file(self) -> str:
        return str(self.folder / "mine.yaml")

    @property
    def recipe(self) -> Recipe:
        return read_recipe(self.recipe_file)

    def write_row_contract(self, least: int = 12, most: int = 60) -> None:
        """The contract of generated rows, with these limits on a message's length."""
        write_contract(self.folder / "rows.odcs.yaml", [message_property(least, most), QUEUE_PROPERTY], name="rows")

    def write_document_contract(self, secret: str = "internal", **tolerance: float) -> None:
        """The contract of documents: none may hold this word; ``mostly`` stops the run where too many do."""
        kwargs = {"regex": secret, **tolerance}
        rule = expectation("expect_column_values_to_not_match_regex", kwargs, name="nothing internal")
        message = {"name": "message", "quality": [rule]}
        write_contract(self.folder / "documents.odcs.yaml", [message], name="documents")

    def run(self) -> RunRecord:
        """All stages up to the check of the training set, recorded as the flow does it, an error too.

        Raises:
            RetuneError: of a stage.
        """
        with recorded(self.home, self.recipe_file) as record, pytest.MonkeyPatch.context() as patch:
            record.recipe = self.recipe.name
            patch.setattr(own_server, "serving", self.teacher.serving)
            patch.setattr(generate, "vllm_version", lambda: "vllm-1.0")
            self._run(record)
            record.status, record.reason = "rejected", "It is not better."
        return record

    def _run(self, record: RunRecord) -> None:
        recipe = self.recipe
        collected = self._stage(record, collect_job(recipe, self.home))
        documents = self._stage(record, documents_job(recipe, collected))
        self._prepare_teacher(documents, collected)
        generated = self._stage(record, generate_job(recipe, documents))
        validated = self._stage(record, validate_job(recipe, collected, documents, generated))
        self._stage(record, training_set_job(recipe, validated, Publications()))

    def _stage(self, record: RunRecord, job: StageJob) -> ArtifactRef:
        done = run_stage(job, self.home, record.run_id)
        record.stage(done.ref.stage, done.ref, done.seconds, done.cached)
        return done.ref

    def _prepare_teacher(self, documents: ArtifactRef, collected: ArtifactRef) -> None:
        topics = sorted(pq.read_table(documents.folder / "train.parquet")["topic"].to_pylist())
        leaked = pq.read_table(collected.folder / "holdout.parquet")["message"][0].as_py()
        answers = {
            topics[EMPTY]: " ",
            topics[BAD]: "this one is bad and has to go away",
            topics[SHORT]: "too short",
            topics[LONG]: f"please {'say much more than one should, ' * 3}",
            topics[LEAKED]: leaked,
            topics[TWICE]: "please send me another card by post tomorrow",
            topics[ALSO_TWICE]: "please send me another card by post tomorrow!",
        }

        def answer(question: str) -> tuple[str, str]:
            if question.startswith("Is this"):
                return ("no, it is bad" if " bad " in question else "yes"), "stop"
            topic = question.removeprefix("Write about ").removesuffix(".")
            if topic == topics[CUT_OFF]:
                return "cut off", "length"
            spelled = topic.translate(str.maketrans("0123456789", "abcdefghij"))  # other numbers are no near duplicates
            return answers.get(topic, f"please tell me all about {spelled} and why it is so"), "stop"

        self.teacher.answer = answer


def small_night(folder: Path) -> SmallNight:
    """Recipe, contracts, templates and documents in a folder; nothing has run yet."""
    one = SmallNight(folder, Home(folder / "home"), Teacher(folder))
    _write_documents(folder / "messages.csv")
    (folder / "write.md").write_text(WRITE, encoding="utf-8")
    (folder / "strict.md").write_text(STRICT, encoding="utf-8")
    one.write_row_contract()
    one.write_document_contract()
    write_contract(folder / "set.odcs.yaml", [QUEUE_PROPERTY], name="training set")
    (folder / "mine.yaml").write_text(yaml.safe_dump(_recipe(), sort_keys=False), encoding="utf-8")
    return one


def _write_documents(path: Path) -> None:
    lines = ["id,message,queue,topic"]
    for number in range(DOCUMENTS):
        said = f"customer {number} wants to know what topic {number} may mean"
        lines.append(f"msg-{number:02},{said},{QUEUES[number % 2]},topic {number:02}")
    lines += [f"{name},this is internal and {name},cards,{name}" for name in (INTERNAL, INTERNAL_HELD_OUT)]
    lines.append("msg-91,,cards,topic 91")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _recipe() -> Row:
    model = str(PROJECT_ROOT / "seedling" / "model")
    return {
        "name": "mine",
        "seed": 7,
        "model": {"path": model},
        "task": {"system": "Route it.", "input": "message", "output": "queue", "labels": list(QUEUES)},
        "collect": {
            "sources": [{"path": "messages.csv"}],
            "columns": {"message": "message", "queue": "queue", "topic": "topic"},
            "id_column": "id",
            "holdout_fraction": 0.2,
        },
        "generate": {"prompts": ["write.md"], "judges": ["strict.md"], "concurrency": 4, "attempts": 2,
                     "server": {"max_model_len": 512}},
        "validate": {
            "contracts": {"documents": "documents.odcs.yaml", "rows": "rows.odcs.yaml", "training_set": "set.odcs.yaml",
                          "evaluations": "documents.odcs.yaml"},
            "include_collected": False,
        },
        "train": {"max_steps": 60},
        "evaluate": {},
        "publish": {"name": "router"},
    }  # fmt: skip
