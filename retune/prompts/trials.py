"""What came of asking a teacher one template's requests: the rows, the rules they broke, what the judges said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.generate.judging import Judgement


@dataclass(frozen=True)
class TriedRow:
    """A row that an answer gave.

    Attributes:
        fields: what the answer filled.
        rule: ``rule: detail`` that the row broke, or None where it is kept.
        judgements: of the judges that saw it.
    """

    fields: Mapping[str, str]
    rule: str | None = None
    judgements: tuple[Judgement, ...] = ()

    @property
    def is_kept(self) -> bool:
        """Whether the night would keep it."""
        return self.rule is None

    @property
    def text(self) -> str:
        """All that the answer filled, one field a line."""
        return "\n".join(self.fields.values())


@dataclass(frozen=True)
class Trial:
    """One request and what came of it.

    Attributes:
        document_id: of the document it was made from.
        index: which of the document's rows, from 0.
        messages: the conversation that is sent; empty where the template could not be rendered.
        rows: at least one once it was asked; a request that failed is one row with its rule.
        answer: the teacher's raw text, or None where it was not asked.
        finish_reason: ``stop``, ``length`` or ``refused: ...``.
        prompt_tokens: tokens in; None where nobody counted them.
        completion_tokens: tokens out.
        was_stored: whether the answer was known from an earlier run.
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
        """The rows that the night would keep."""
        return [row for row in self.rows if row.is_kept]


def said(judgement: Judgement) -> str:
    """A judge's words, with its score where it gave one."""
    words = judgement.problem or judgement.reasons
    return words if judgement.score is None else f"{judgement.score:g}: {words}"


def verdict(trial: Trial) -> str:
    """What became of a request, in a few words: ``kept``, ``3 of 4 rows kept``, or the rule it broke."""
    if len(trial.rows) > 1 and trial.kept:
        return f"{len(trial.kept)} of {len(trial.rows)} rows kept"
    if trial.kept:
        return "kept"
    return next((row.rule for row in trial.rows if row.rule is not None), "no rows")
