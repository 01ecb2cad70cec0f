"""Write the missing training rows: plan, ask the teacher, parse, judge, and keep every lost row with its raw text."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tasks.core import tables
from tasks.core.answer_store import AnswerStore
from tasks.core.artifacts import ArtifactRef, StageKey, Summary
from tasks.core.config import ChatTask, ModelSource
from tasks.core.control_tokens import TokenGuard
from tasks.core.errors import GenerationError
from tasks.core.files import canonical_json, digest_of
from tasks.core.models import model_digest
from tasks.core.progress import say
from tasks.core.prompts import Prompt, read_prompt
from tasks.core.prompts.rendering import Renderer
from tasks.core.stage import StageContext
from tasks.core.table_writer import TableWriter
from tasks.core.vllm.server import STRUCTURED_OUTPUTS, vllm_version
from tasks.generate.blocks import Blocks, within
from tasks.generate.config import GenerateConfig
from tasks.generate.documents import TrainingDocuments
from tasks.generate.engine import Engine
from tasks.generate.judging import Panel
from tasks.generate.request_plan import Teacher
from tasks.generate.summary import Tally
from tasks.generate.writing import RowWriter
from tasks.generate.written_rows import columns_of_rows, row_schema

VERSION = 4


@dataclass(frozen=True)
class GenerateJob:
    """Writes ``rows.parquet`` and ``quarantine.parquet`` from the training documents.

    ``fields`` are the documents' columns: an answer's fields replace those of the same name. ``control_tokens`` are
    those of the chat templates; an answer that contains one is rejected.
    """

    config: GenerateConfig
    model: ModelSource
    task: ChatTask
    collected: ArtifactRef
    fields: tuple[str, ...]
    seed: int
    control_tokens: tuple[str, ...] = ()

    @property
    def served(self) -> ModelSource:
        """The model that vLLM serves if no endpoints are named."""
        return self.config.teacher or self.model

    @cached_property
    def teacher(self) -> Teacher:
        """The teacher: a served model with its adapter, or the models of endpoints, which cannot be pinned."""
        if self.config.endpoints:
            places = [endpoint.model_dump(include={"url", "model"}) for endpoint in self.config.endpoints]
            names = dict.fromkeys(endpoint.model for endpoint in self.config.endpoints)
            return Teacher(", ".join(names), digest_of(sorted(places, key=canonical_json)), "OpenAI's chat API")
        name = Path(self.served.path).name if self.served.is_local else self.served.path
        digest = model_digest(self.served)
        if self.config.adapter is not None:
            name += f" + {Path(self.config.adapter).name}"
            digest = digest_of([digest, model_digest(ModelSource(path=self.config.adapter))])
        engine = f"{vllm_version()} {STRUCTURED_OUTPUTS} {canonical_json(self.config.server.shaping)}"
        return Teacher(name, digest, engine)

    @cached_property
    def prompts(self) -> list[Prompt]:
        """Read once: an edit between computing the key and asking must not be filed under the old key."""
        return [read_prompt(Path(path)) for path in self.config.prompts]

    @cached_property
    def judges(self) -> list[Prompt]:
        return [read_prompt(Path(path)) for path in self.config.judges]

    def key(self) -> StageKey:
        """The key: documents, prompts in order, teacher, judges, attempts, limit of rows, seed and task.

        Limits of time and tokens are not part of it: they interrupt the work, and the next run continues it.
        """
        teacher = self.teacher
        return StageKey(
            "generate",
            VERSION,
            {
                "engine": teacher.engine,
                "task": self.task,
                "fields": self.fields,
                "seed": self.seed,
                "control_tokens": self.control_tokens,
                "attempts": self.config.attempts,
                "rows": self.config.limits.rows,
                "prompts": [prompt.name for prompt in self.prompts],
                "judges": [judge.name for judge in self.judges],
            },
            inputs=[self.collected],
            files={
                "teacher": teacher.digest,
                **{f"prompt:{prompt.name}": prompt.digest for prompt in self.prompts},
                **{f"judge:{judge.name}": judge.digest for judge in self.judges},
            },
            libraries=["jinja2", "jsonschema"],
        )

    def fill(self, folder: Path, context: StageContext) -> Summary:
        """Ask what was never asked before, block by block, and write every result.

        Raises GenerationError: too many answers were unusable, or a limit left fewer rows than ``limits.minimum_rows``;
        ServerError: the teacher stopped answering.
        """
        prompts, teacher = self.prompts, self.teacher
        columns = columns_of_rows(self.fields, prompts)
        read = (name for prompt in prompts for name in prompt.head.document_fields)
        documents = TrainingDocuments(self.collected.folder / tables.TRAIN, [*self.fields, *read])
        tally = Tally()
        with (
            AnswerStore.open(context.home.answers) as store,
            Renderer() as renderer,
            Engine(self.config, self.served, store, context) as engine,
            TableWriter(folder / tables.ROWS, row_schema(columns)) as rows,
            TableWriter(folder / tables.QUARANTINE, tables.schema(tables.QUARANTINED["generate"])) as quarantine,
            contextlib.ExitStack() as stack,
        ):
            blocks = Blocks(documents, prompts, teacher, self.seed, renderer, self.config)
            guard = TokenGuard(self.control_tokens)
            writer = RowWriter(engine, teacher, self.task, columns, self.config.attempts, guard)
            panel = Panel(self.judges, engine, teacher, self.seed, renderer, self.config.failure_limit)
            course = stack.enter_context(engine.course("generating", blocks.total, 1 + len(self.judges)))
            for block in blocks.plan(tally):
                course.block(tally.asked, len(block))
                if tally.asked:
                    say(f"  {tally.asked} of {blocks.total} requests are done and gave {tally.kept} rows")
                outcome = writer.write(block)
                passed, failed = panel.judge(outcome.rows)
                kept, surplus = within(self.config.limits.rows, tally.kept, passed)
                lost = [*outcome.rejected, *failed, *surplus]
                rows.add_all(kept)
                quarantine.add_all(lost)
                tally.count(outcome, kept, lost)
                engine.rows_written(tally.kept)
                if engine.stopped is not None and outcome.asked.total() < len(block):
                    break  # stored answers may cover a whole block, and the next
            stats = engine.stats
        unasked = blocks.total - tally.asked
        missed = unasked + tally.no_second_chance + panel.not_asked
        stopped = self._cut_short(engine.stopped if missed else None, tally)
        context.on_progress(1.0, f"{tally.kept} rows of {tally.asked} requests{tally.losses}")
        if stats.failed:
            say(f"  {stats.failed} requests got no answer in all their tries: the next run asks them again")
        details = {
            "asked": stats.asked,
            "reused": stats.reused,
            "completion_tokens": stats.completion_tokens,
            "stats": stats,
            "judges": {name: counts.as_numbers() for name, counts in panel.tallies.items()},
            "unasked": unasked,
            "not_applicable": blocks.not_applicable,
            "stopped": stopped,
            "failed": stats.failed,
        }
        return tally.summary(details, partial=stopped is not None or stats.failed > 0)

    def _cut_short(self, reached: str | None, tally: Tally) -> str | None:
        """The limit of time or tokens that interrupted the work, or None; ``limits.rows`` does not interrupt it."""
        limits = self.config.limits
        if reached is None or (limits.rows is not None and tally.kept >= limits.rows):
            return None
        if tally.kept < limits.minimum_rows:
            raise GenerationError(
                f"The limit {reached} was reached with {tally.kept} rows, and limits.minimum_rows is"
                f" {limits.minimum_rows}{tally.losses}",
                where="generate.limits",
                remedy="raise the limit, or lower minimum_rows; stored answers are reused",
            )
        say(f"  the limit {reached} was reached: continuing with {tally.kept} rows{tally.losses}")
        return reached
