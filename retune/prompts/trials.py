"""The results of one template's requests: the rows, the rules they broke, the judgements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.generate.judging import Judgement


@dataclass(frozen=True)
class TriedRow:
    """A row of an answer; ``rule`` is the ``rule: detail`` that it broke, None if it is kept."""

    fields: Mapping[str, str]
    rule: str | None = None
    judgements: tuple[Judgement, ...] = ()

    @property
    def is_kept(self) -> bool:
        return self.rule is None

    @property
    def text(self) -> str:
        """The filled fields, one a line."""
        return "\n".join(self.fields.values())


@dataclass(frozen=True)
class Trial:
    """One request and its result.

    Attributes:
        index: which of the document's rows, from 0.
        messages: empty if the template could not be rendered.
        rows: at least one after it was asked; a failed request is one row with its rule.
        answer: the teacher's raw text; None if it was not asked.
        finish_reason: ``stop``, ``length`` or ``refused: ...``.
        prompt_tokens: None if they were not counted.
    """

    document_id: str
    index: int
    messages: Sequence[Mapping[str, Any]]
    rows: tuple[TriedRow, ...] = ()
    answer: str | None = None
    finish_reason: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int = 0
    was_stored: bool = False

    @property
    def kept(self) -> list[TriedRow]:
        return [row for row in self.rows if row.is_kept]


def judgement_text(judgement: Judgement) -> str:
    """A judge's reasons, with its score if it gave one."""
    text = judgement.problem or judgement.reasons
    return text if judgement.score is None else f"{judgement.score:g}: {text}"


def verdict(trial: Trial) -> str:
    """The outcome of a request: ``kept``, ``3 of 4 rows kept``, or the rule it broke."""
    if len(trial.rows) > 1 and trial.kept:
        return f"{len(trial.kept)} of {len(trial.rows)} rows kept"
    if trial.kept:
        return "kept"
    return next((row.rule for row in trial.rows if row.rule is not None), "no rows")
