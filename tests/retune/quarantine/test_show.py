"""``retune quarantine show``: from a row to the rules it broke, its prompt, its document and the raw answer."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from flows.night.jobs import collect_job
from flows.report.record import RunRecord
from retune.quarantine.lost_rows import HELD_OUT, KEPT, TRAINING_DOCUMENT, read_lost_rows
from retune.quarantine.row_trace import RowTrace, trace_row
from retune.quarantine.run_files import find_run
from tasks.core.errors import RecipeError
from tasks.core.stage import run_stage
from tests.flows.small_night import INTERNAL, SHORT_RULE, WRITE, SmallNight, small_night
from tests.retune.command import retune

LastNight = tuple[SmallNight, RunRecord]
Question = tuple[tuple[str, str], ...]


@pytest.fixture
def night(last_night: LastNight) -> Iterator[SmallNight]:
    """The night, with its template as it was when it ran."""
    yield last_night[0]
    (last_night[0].folder / "write.md").write_text(WRITE, encoding="utf-8")


def only_collected(folder: Path, *lines: str) -> SmallNight:
    """A night that was stopped behind collect, with these lines more in its source."""
    night = small_night(folder)
    with (folder / "messages.csv").open("a", encoding="utf-8") as source:
        source.writelines(f"{line}\n" for line in lines)
    record = RunRecord.start(night.home, night.recipe_file, "")
    done = run_stage(collect_job(night.recipe, night.home), night.home, record.run_id)
    record.stage("collect", done.ref, done.seconds, done.cached)
    return night


def row_of(night: SmallNight, rule: str) -> str:
    """The id of the row that a rule took."""
    lost = read_lost_rows(find_run(night.home, None)).to_pylist()
    found: str = next(row["row_id"] for row in lost if rule in row["rules"])
    return found


def follow(night: SmallNight, rule: str) -> RowTrace:
    return trace_row(find_run(night.home, None), night.home, row_of(night, rule))


def really_sent(night: SmallNight) -> list[Question]:
    """The messages that the teacher got."""
    return [tuple((turn["role"], turn["content"]) for turn in body["messages"]) for body in night.teacher.bodies]


def test_a_row_is_followed_to_rules_prompt_document_and_answer(night: SmallNight, last_night: LastNight) -> None:
    found = follow(night, SHORT_RULE)
    assert [reason.rule for reason in found.row.reasons] == [SHORT_RULE, "polite"]
    assert (found.row.raw, found.row.outcome, found.row.stage) == ("too short", "quarantined", "validate")
    assert found.document is not None and found.written is not None
    assert found.document["document_id"] == found.row.document_id
    number = int(found.row.document_id.removeprefix("msg-"))
    assert (found.document["source"], found.document["line"]) == ("messages.csv", number + 2)
    assert found.written.prompt == "write" and len(found.written.prompt_digest) == 64
    assert found.written.run_id == last_night[1].run_id and found.written.teacher == "model"
    assert [judgement["passed"] for judgement in found.written.judgements] == [True]
    json.dumps(found.as_json())


@pytest.mark.parametrize("rule", [SHORT_RULE, "truncated", "judge strict", "holdout", "near"])
def test_the_messages_are_those_that_were_sent(night: SmallNight, rule: str) -> None:
    found = follow(night, rule)
    assert found.written is not None and found.document is not None
    sent = found.written.sent
    assert sent.messages in really_sent(night)
    assert f"Write about {found.document['topic']}." in sent.messages[-1][1]
    assert "this is what was sent" in sent.note and found.written.seed is not None
    assert found.written.sampling and found.written.attempts == (2 if rule == "truncated" else 1)


def test_a_row_that_no_judge_saw_has_its_raw_answer_all_the_same(night: SmallNight, last_night: LastNight) -> None:
    found = follow(night, "truncated")
    assert found.row.raw == "cut off" and found.row.reasons[0].said == "the answer ran into max_tokens"
    assert found.written is not None and found.written.judgements == ()
    assert found.written.teacher == "model" and len(found.written.teacher_revision) == 64


def test_a_document_that_broke_its_contract_is_shown_as_it_was_collected(night: SmallNight) -> None:
    found = trace_row(find_run(night.home, None), night.home, INTERNAL)
    assert found.written is None and found.document is not None
    assert found.row.prompt == "(collected)" and found.document["topic"] == INTERNAL
    assert found.row.reasons[0].contract == "documents" and INTERNAL in found.row.reasons[0].said


def test_a_row_of_a_source_that_became_no_document_is_shown_by_its_place(night: SmallNight) -> None:
    place = row_of(night, "missing")
    found = trace_row(find_run(night.home, None), night.home, place)
    assert place.startswith("messages.csv:") and '"id":"msg-91"' in found.row.raw and found.document is None


def test_a_row_that_was_kept_is_followed_too(night: SmallNight, last_night: LastNight) -> None:
    table = Path(last_night[1].stages["validate"]["path"]) / "training_set.parquet"
    kept = pq.read_table(table, columns=["example_id", "document_id"]).to_pylist()[0]
    found = trace_row(find_run(night.home, None), night.home, kept["example_id"])
    assert (found.row.outcome, found.row.reasons, found.row.document_id) == (KEPT, (), kept["document_id"])
    assert found.written is not None and "this is what was sent" in found.written.sent.note
    assert found.row.turns[-1][0] == "assistant" and found.row.raw


def test_a_held_out_document_is_found_by_the_id_that_a_leak_names(night: SmallNight) -> None:
    leaked = follow(night, "holdout").row.reasons[0].said
    document_id = leaked.removeprefix("100% of ").partition(",")[0]
    found = trace_row(find_run(night.home, None), night.home, document_id)
    assert (found.row.outcome, found.row.reasons, found.written) == (HELD_OUT, (), None)
    assert found.document is not None and found.document["message"] in leaked
    assert found.row.turns[-1][0] == "assistant"
    shown = retune(night.home.root, "quarantine", "show", document_id).stdout
    assert f"row {document_id}: held out for the evaluation, trains nothing, collect" in shown
    assert found.document["topic"] in shown


def test_a_document_that_only_prompts_read_is_found(night: SmallNight) -> None:
    document_id = follow(night, SHORT_RULE).row.document_id
    found = trace_row(find_run(night.home, None), night.home, document_id)
    assert found.row.outcome == TRAINING_DOCUMENT and found.document is not None
    assert f"row {document_id}: a training document, collect" in (
        retune(night.home.root, "quarantine", "show", document_id).stdout
    )


def test_a_document_that_collect_set_aside_is_found_by_the_id_of_its_source(night: SmallNight) -> None:
    found = trace_row(find_run(night.home, None), night.home, "msg-91")
    assert found.row.row_id == row_of(night, "missing") and found.row.raw
    assert [(reason.rule, reason.said) for reason in found.row.reasons] == [("missing", "'message' is empty")]
    with pytest.raises(RecipeError, match="neither set aside nor kept\n"):
        trace_row(find_run(night.home, None), night.home, "msg-9")


def test_an_id_is_found_in_a_row_that_the_quarantine_cuts_off(tmp_path: Path) -> None:
    night = only_collected(tmp_path, f"msg-80,{'so ' * 50_000},nowhere,none")
    found = trace_row(find_run(night.home, None), night.home, "msg-80")
    assert found.row.reasons[0].rule == "unknown_label" and '"id":"msg-80"' in found.row.raw


def test_of_two_documents_with_one_id_both_are_named_and_copies_are_not_said_to_be_unknown(tmp_path: Path) -> None:
    copy = "customer 1 wants to know what topic 1 may mean,payroll,topic 01"
    night = only_collected(tmp_path, "msg-00,quite another text,cards,other", f"msg-80,{copy}")
    files = find_run(night.home, None)
    found = trace_row(files, night.home, "msg-00")
    assert found.row.outcome in (TRAINING_DOCUMENT, HELD_OUT) and len(found.same_id) == 1
    other = trace_row(files, night.home, found.same_id[0]).row
    assert other.reasons[0].rule == "duplicate_id" and found.document is not None
    assert found.document["message"] not in other.raw
    assert found.same_id[0] in retune(night.home.root, "quarantine", "show", "msg-00").stdout
    with pytest.raises(RecipeError, match="collect removed 1 rows as duplicates and does not record which"):
        trace_row(files, night.home, "msg-80")


def test_a_very_long_text_is_cut_in_the_terminal_and_whole_as_json(tmp_path: Path) -> None:
    night = only_collected(tmp_path, f"msg-80,{'so' * 500_000},cards,long")
    shown = retune(night.home.root, "quarantine", "show", "msg-80").stdout
    assert "[... 996,000 more characters: --json has them]" in " ".join(shown.split())
    assert len(shown) < 12_000
    whole = json.loads(retune(night.home.root, "quarantine", "show", "msg-80", "--json").stdout)
    assert whole["document"]["message"] == "so" * 500_000


@pytest.mark.parametrize("cut", [slice(0, 12), slice(2, 9)])
def test_an_unknown_id_is_answered_with_those_that_are_near(night: SmallNight, cut: slice) -> None:
    whole = row_of(night, SHORT_RULE)
    with pytest.raises(RecipeError, match="neither set aside nor kept") as caught:
        trace_row(find_run(night.home, None), night.home, whole[cut])
    assert whole in caught.value.remedy


def test_a_template_that_has_changed_since_is_taken_from_git_or_said_to_be_lost(night: SmallNight) -> None:
    template = night.folder / "write.md"
    before = follow(night, SHORT_RULE)
    template.write_text(WRITE.replace("Write about", "Tell of"), encoding="utf-8")
    lost = follow(night, SHORT_RULE)
    assert lost.written is not None and lost.written.sent.messages == ()
    assert "has changed since, and Git does not have it" in lost.written.sent.note
    for text in (WRITE, WRITE.replace("Write about", "Tell of")):
        template.write_text(text, encoding="utf-8")
        for arguments in (["init", "-q"], ["add", "write.md"], ["commit", "-q", "-m", "templates"]):
            identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
            subprocess.run(["git", *identity, *arguments], cwd=night.folder, check=True, capture_output=True)
    found = follow(night, SHORT_RULE)
    assert before.written is not None and found.written is not None
    assert found.written.sent.messages == before.written.sent.messages
    assert "has changed since" in found.written.sent.note and "this is what was sent" in found.written.sent.note
    template.unlink()
    found = follow(night, SHORT_RULE)
    assert found.written is not None and found.written.sent.messages == before.written.sent.messages


def test_the_command_shows_everything_at_once(night: SmallNight) -> None:
    row_id = row_of(night, "judge strict")
    shown = " ".join(retune(night.home.root, "quarantine", "show", row_id).stdout.split())
    for text in ("judge strict", "this one is bad", "Write about topic", "this is what was sent", "line: ", "seed: "):
        assert text in shown
    done = retune(night.home.root, "quarantine", "show", row_id, "--json")
    assert json.loads(done.stdout)["row"]["row_id"] == row_id
    done = retune(night.home.root, "quarantine", "show", "nobody")
    assert (done.returncode, done.stdout) == (1, "") and "has no row 'nobody'" in done.stderr
