"""Split the work into blocks of documents; each is planned, written and judged before the next."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tasks.core.prompts import Prompt
from tasks.core.prompts.rendering import Renderer
from tasks.generate.config import GenerateConfig
from tasks.generate.documents import TrainingDocuments, applies
from tasks.generate.request_plan import PlannedRow, Teacher, plan_rows
from tasks.generate.sampling import Document, ExamplePool
from tasks.generate.summary import Tally
from tasks.generate.written_rows import Row, rejected

REQUESTS = 8_192
"""Requests in a block: the part of the work held in memory."""
FEWER_REQUESTS = 1_024
"""The same if judges follow and a limit may stop the work: rows without a verdict by then are lost."""
FEWEST_REQUESTS = 32
"""Smallest block, so that the last rows up to ``limits.rows`` do not come one by one."""


@dataclass(frozen=True)
class Blocks:
    documents: TrainingDocuments
    prompts: Sequence[Prompt]
    teacher: Teacher
    seed: int
    renderer: Renderer
    config: GenerateConfig

    @property
    def total(self) -> int:
        """Planned rows if no limit stops the work."""
        return sum(self.documents.applicable(prompt) * prompt.head.rows_per_document for prompt in self.prompts)

    @property
    def not_applicable(self) -> dict[str, int]:
        """By prompt, the number of documents that lack a field it reads."""
        lacking = {prompt.name: len(self.documents) - self.documents.applicable(prompt) for prompt in self.prompts}
        return {name: count for name, count in lacking.items() if count}

    def plan(self, tally: Tally) -> Iterator[list[PlannedRow]]:
        """Plan block by block until ``tally`` counts ``limits.rows`` rows.

        The size of a block depends on counts alone, never on time, so that the same rows result every time.
        """
        start = 0
        pool = ExamplePool(self.documents)
        wanted = self.config.limits.rows
        while start < len(self.documents) and (wanted is None or tally.kept < wanted):
            block, start = self._take(start, block_requests(self.config, tally.kept, tally.asked))
            planned: list[PlannedRow] = []
            for prompt in self.prompts:
                fitting = [document for document in block if applies(prompt, document)]
                planned += plan_rows(fitting, [prompt], self.teacher, self.seed, self.renderer, pool)
            yield planned

    def _take(self, start: int, requests: int) -> tuple[list[Document], int]:
        step = math.ceil(requests / sum(prompt.head.rows_per_document for prompt in self.prompts))
        taken: list[Document] = []
        planned = 0
        while planned < requests and start < len(self.documents):
            for document in self.documents[start : start + step]:
                wanted = sum(one.head.rows_per_document for one in self.prompts if applies(one, document))
                planned += wanted
                taken += [document] if wanted else []
            start += step
        return taken, start


def block_requests(config: GenerateConfig, kept: int, asked: int) -> int:
    """How many requests to plan next, given the requests and kept rows so far."""
    limits = config.limits
    cut_short = limits.tokens is not None or limits.minutes is not None or limits.deadline is not None
    # The blocks determine which rows limits.rows keeps: limits outside the artifact's key must not shape them.
    most = FEWER_REQUESTS if config.judges and (cut_short or limits.rows is not None) else REQUESTS
    if limits.rows is None:
        return most
    rows_per_request = kept / asked if kept else 1.0
    return min(most, max(FEWEST_REQUESTS, math.ceil((limits.rows - kept) / rows_per_request)))


def within(limit: int | None, before: int, rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """The rows up to ``limits.rows``, and quarantine rows for the surplus; ``before`` rows exist already.

    The rows' ids, which are hashes, decide which are kept: each prompt loses its share.
    """
    if limit is None or before + len(rows) <= limit:
        return list(rows), []
    chosen = sorted(rows, key=lambda row: str(row["row_id"]))
    room = limit - before
    return chosen[:room], [rejected(row, f"surplus: limits.rows {limit} was reached") for row in chosen[room:]]
