"""What a limit leaves: whole counts, the same rows every time, and work that the next run goes on with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tasks.core.errors import GenerationError
from tasks.generate import blocks
from tasks.generate.config import Limits
from tasks.generate.request_plan import PlannedRow
from tasks.generate.writing import Outcome, RowWriter
from tests.unit.generate.stage import (
    OUTPUT,
    PASSES,
    Teacher,
    fill,
    make_job,
    many_documents,
    write_documents,
    write_prompt,
)


def test_the_limit_of_rows_is_met_exactly_and_the_same_way_every_time(tmp_path: Path, teacher: Teacher) -> None:
    job = make_job(tmp_path, limits=Limits(rows=50))
    many_documents(tmp_path)
    summary, rows, rejected = fill(job, tmp_path)
    assert (len(rows), summary.partial, summary.details.stopped) == (50, False, None)
    assert {row["rule"].split(":")[0] for row in rejected} <= {"surplus"}
    assert summary.details.unasked == 360 - sum(one["requests"] for one in summary.details.by_prompt.values())
    assert summary.details.unasked > 250
    assert len(teacher.questions) == summary.rows_in
    assert all(one["kept"] for one in summary.details.by_prompt.values())
    numbers = [int(row["document_id"].removeprefix("msg-")) for row in rows]
    assert max(numbers) > 60, "a fair sample of the documents, not the first ones"
    _, again, _ = fill(job, tmp_path, "run-2")
    assert again == rows


def test_blocks_are_full_where_few_documents_have_what_a_prompt_reads(
    tmp_path: Path, teacher: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt = write_prompt(tmp_path, "write", "Write about {{ topic }}.", OUTPUT)
    job = make_job(tmp_path, [prompt], limits=Limits(rows=40))
    documents = [{"document_id": f"d{n}", "message": "m", "queue": "q", "topic": None if n % 10 else f"topic {n}"}
                 for n in range(1000)]  # fmt: skip
    write_documents(tmp_path / "collected", documents)
    sizes: list[int] = []
    write = RowWriter.write

    def counted(writer: RowWriter, planned: Sequence[PlannedRow]) -> Outcome:
        sizes.append(len(planned))
        return write(writer, planned)

    monkeypatch.setattr(RowWriter, "write", counted)
    _, rows, _ = fill(job, tmp_path)
    assert len(rows) == 40 and len(sizes) == 1 and 40 <= sizes[0] < 80


def test_the_limit_of_rows_counts_what_the_judges_passed(tmp_path: Path, teacher: Teacher) -> None:
    judge = write_prompt(tmp_path, "even", "Even? {{ topic }}", PASSES)
    job = make_job(tmp_path, judges=[judge], limits=Limits(rows=60))
    many_documents(tmp_path)
    teacher.answer = lambda question: (
        ("yes" if int(question[-1]) % 2 == 0 else "no") if question.startswith("Even?") else "w",
        "stop",
    )
    summary, rows, _ = fill(job, tmp_path)
    assert len(rows) == 60 and {int(row["topic"][-1]) % 2 for row in rows} == {0}
    assert summary.details.unasked > 0


def test_a_limit_of_tokens_cuts_the_work_short_and_the_next_run_goes_on_with_it(
    tmp_path: Path, teacher: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "FEWER_REQUESTS", 30)
    judge = write_prompt(tmp_path, "about", "Is it about {{ topic }}?", PASSES)
    teacher.answer = lambda question: ("yes" if question.startswith("Is it") else "w", "stop")
    limited = make_job(tmp_path, judges=[judge], limits=Limits(tokens=500))
    many_documents(tmp_path, 40)
    summary, rows, rejected = fill(limited, tmp_path)
    assert summary.partial and summary.details.stopped == "tokens 500"
    assert 30 <= len(rows) < 90
    assert summary.rows_in + summary.details.unasked == 120
    assert {row["rule"] for row in rejected} <= {"judge about: no verdict: not asked: tokens 500 was reached"}
    asked = len(teacher.questions)
    whole = make_job(tmp_path, judges=[judge])
    assert whole.key().hex == limited.key().hex
    summary, rows, _ = fill(whole, tmp_path, "run-2")
    assert (len(rows), summary.partial, summary.details.unasked) == (120, False, 0)
    assert len(teacher.questions) == 240 and summary.details.reused == asked


def test_limits_outside_the_key_do_not_change_which_rows_are_kept(
    tmp_path: Path, teacher: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "FEWER_REQUESTS", 40)
    judge = write_prompt(tmp_path, "about", "Is it about {{ topic }}?", PASSES)
    teacher.answer = lambda question: ("yes" if question.startswith("Is it") else "w", "stop")
    plain = make_job(tmp_path, judges=[judge], limits=Limits(rows=100))
    timed = make_job(tmp_path, judges=[judge], limits=Limits(rows=100, minutes=50, tokens=10**9, deadline="04:30"))
    many_documents(tmp_path, 60)
    assert plain.key().hex == timed.key().hex
    assert fill(plain, tmp_path)[1] == fill(timed, tmp_path, "run-2")[1]


def test_a_request_without_an_answer_makes_the_night_partial_and_the_next_asks_it_again(
    tmp_path: Path, teacher: Teacher
) -> None:
    ill = True

    def answer(question: str) -> tuple[str, str]:
        if ill and question == "Vary new pin.":
            raise OSError("the connection breaks")
        return "fine", "stop"

    teacher.answer = answer
    summary, rows, rejected = fill(make_job(tmp_path), tmp_path)
    assert (summary.partial, summary.details.failed, summary.details.stopped) == (True, 1, None)
    assert len(rows) == 8 and [row["rule"].split(":")[0] for row in rejected] == ["failed"]
    ill = False
    summary, rows, _ = fill(make_job(tmp_path), tmp_path, "run-2")
    assert (summary.partial, summary.details.failed, len(rows), summary.details.asked) == (False, 0, 9, 1)


def test_after_the_limit_all_that_is_stored_is_still_used(
    tmp_path: Path, teacher: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "REQUESTS", 30)
    job = make_job(tmp_path, limits=Limits(tokens=1000))
    many_documents(tmp_path, 40)
    summary, rows, _ = fill(job, tmp_path)
    assert summary.partial and 30 < len(rows) < 60
    (tmp_path / "out-run-1").rename(tmp_path / "first try")
    asked = len(teacher.questions)
    summary, again, _ = fill(job, tmp_path)
    assert again == rows and summary.partial and len(teacher.questions) == asked


def test_a_second_chance_that_a_limit_prevents_leaves_the_first_loss(tmp_path: Path, teacher: Teacher) -> None:
    teacher.answer = lambda question: ("cut", "length")
    job = make_job(tmp_path, attempts=2, limits=Limits(tokens=1, minimum_rows=0), concurrency=1)
    summary, _, rejected = fill(job, tmp_path)
    assert summary.partial and summary.rows_in == len(rejected) >= 1
    assert {row["attempts"] for row in rejected} == {1}
    assert summary.rows_in + summary.details.unasked == 9


def test_too_few_rows_at_a_limit_are_an_error_that_names_it(tmp_path: Path, teacher: Teacher) -> None:
    teacher.answer = lambda question: ("cut", "length")
    job = make_job(tmp_path, limits=Limits(tokens=1, minimum_rows=9), concurrency=1)
    said = r"The limit tokens 1 was reached with 0 rows, and .* is 9; (\d) were lost: \1 to truncated"
    with pytest.raises(GenerationError, match=said):
        fill(job, tmp_path)


def test_blocks_do_not_change_what_is_written(
    tmp_path: Path, teacher: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = "{shown: {from: few_shot, count: 2, fields: [topic]}, topic: {from: document}}"
    prompt = write_prompt(tmp_path, "few", "{{ topic }} {{ shown | length }}", OUTPUT, variables)
    job = make_job(tmp_path, [prompt])
    many_documents(tmp_path, 50)
    _, whole, _ = fill(job, tmp_path)
    monkeypatch.setattr(blocks, "REQUESTS", 7)
    summary, pieces, _ = fill(job, tmp_path, "run-2")
    assert pieces == whole and summary.details.reused == 50


def test_a_limit_that_is_reached_with_the_last_answer_cuts_nothing_short(tmp_path: Path, teacher: Teacher) -> None:
    teacher.answer = lambda question: ("12345", "stop")
    summary, rows, _ = fill(make_job(tmp_path, limits=Limits(tokens=90)), tmp_path)
    assert len(rows) == 9 and summary.details.stats.completion_tokens == 45
    assert (summary.partial, summary.details.stopped) == (False, None)
