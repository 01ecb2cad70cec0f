"""Trials as a teacher could have made them, for the tests of what is made of them."""

from __future__ import annotations

from collections.abc import Sequence

from retune.prompts.measure import compare
from retune.prompts.report import DiffReport, FileChange, Sample, changed_lines
from retune.prompts.trials import Trial, TriedRow
from tasks.generate.judging import Judgement
from tasks.validate.config import NearDuplicates

HOSTILE = "<script>alert(1)</script> [bold]x[/bold] \x1b[31mred \u202eback\x00"


def verdict(passed: bool, reasons: str = "") -> Judgement:
    return Judgement("check", "digest", passed, None, reasons or ("yes" if passed else "no"), "raw")


def kept(document: str, text: str, index: int = 0) -> Trial:
    row = TriedRow({"message": text}, None, (verdict(True),))
    return Trial(document, index, _turns(document), (row,), text, "stop", 10, 5)


def refused(document: str, text: str) -> Trial:
    """A row that the judge refused."""
    row = TriedRow({"message": text}, "judge check: 'no'", (verdict(False),))
    return Trial(document, 0, _turns(document), (row,), text, "stop", 10, 5)


def truncated(document: str) -> Trial:
    row = TriedRow({}, "truncated: the answer ran into max_tokens")
    return Trial(document, 0, _turns(document), (row,), "and then", "length", 10, 48)


def unrendered(document: str) -> Trial:
    return Trial(document, 0, (), (TriedRow({}, "render: division by zero"),))


def _turns(document: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"Write about {document}."}]


def report(before: Sequence[Trial], after: Sequence[Trial], text: str = "Write {{ topic }}.") -> DiffReport:
    return DiffReport(
        prompt="write_message",
        path="prompts/write_message.md",
        revision="0123456789",
        subject="Say what a message is",
        date="2026-11-21T07:19:03+00:00",
        recipe="embedded",
        teacher="seedling/model",
        documents="the documents of the last night",
        document_count=len({trial.document_id for trial in before}),
        seed=3407,
        made="2026-11-21T08:00:00+00:00",
        asked=6,
        reused=2,
        comparison=compare(before, after, NearDuplicates()),
        samples=tuple(Sample(one, other) for one, other in zip(before, after, strict=True)),
        changes=(FileChange("write_message.md", changed_lines("Write {{ topic }}.", text)),),
    )
