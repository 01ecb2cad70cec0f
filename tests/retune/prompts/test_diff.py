"""`retune prompts diff`: the committed and the edited template on the same documents and seeds."""

from __future__ import annotations

import io
import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console

from retune.prompts.diff import Unchanged, diff
from retune.prompts.page import MOST_SAMPLES, diff_page
from retune.prompts.print_trials import print_diff
from retune.prompts.report import DiffReport
from retune.revisions import TEMPLATE, committed
from tasks.core.errors import PromptError
from tests.openai_stand_in import Chat
from tests.retune.command import retune
from tests.retune.prompts.trials import HOSTILE, kept, refused, report, truncated
from tests.retune.workshop import WRITE, Workshop, workshop, writes

__all__ = ["workshop"]


def compared(at: Workshop, against: str = "HEAD", rows: int = 40) -> DiffReport | Unchanged:
    documents = str(at.documents)
    return diff(str(at.template), at.recipe, at.home, against=against, rows=rows, documents=documents)


def by_template(before: str, after: str, mark: str = "short") -> Chat:
    """A teacher that answers the edited template, which has a word of its own, with another text."""

    def chat(model: str, messages: list[dict[str, str]]) -> tuple[str, str]:
        said = messages[-1]["content"]
        if said.startswith("Is it good?"):
            return ("yes" if after in said else "no"), "stop"
        return (after if mark in said else before), "stop"

    return chat


def test_both_templates_are_asked_on_the_same_documents_and_seeds(workshop: Workshop) -> None:
    workshop.edit("Write a {{ tone }} message", "Write a short {{ tone }} message")
    with workshop.teacher(by_template("a long text", "a text")) as http:
        found = compared(workshop)
        asked = [body for body in http.asked if body["messages"][-1]["content"].startswith("Write")]
    assert isinstance(found, DiffReport)
    edited = {body["seed"] for body in asked if "short" in body["messages"][0]["content"]}
    original = {body["seed"] for body in asked if "short" not in body["messages"][0]["content"]}
    assert len(asked) == 48 and original == edited and len(edited) == 24
    for sample in found.samples:
        assert (sample.before.document_id, sample.before.index) == (sample.after.document_id, sample.after.index)
        drawn = [trial.messages[0]["content"].replace("short ", "") for trial in (sample.before, sample.after)]
        assert drawn[0] == drawn[1]
    assert (found.comparison.before.yield_, found.comparison.after.yield_) == (0.0, 1.0)
    assert found.comparison.before.reasons == {"judge check_message": 24}
    assert [change.lines[-1] for change in found.changes] == ["+Write a short {{ tone }} message about {{ topic }}."]


def test_nothing_is_asked_twice(workshop: Workshop) -> None:
    workshop.edit("Write a", "Write a short")
    with workshop.teacher(by_template("long", "brief")) as http:
        compared(workshop, rows=6)
        before = len(http.asked)
        again = compared(workshop, rows=6)
        assert len(http.asked) == before
    assert isinstance(again, DiffReport) and again.asked == 0 and again.reused == 24


def test_partials_are_taken_from_the_revision_too(workshop: Workshop) -> None:
    (workshop.prompts / "partials").mkdir()
    partial = workshop.prompts / "partials" / "rules.md"
    partial.write_text("Be brief.", encoding="utf-8")
    workshop.edit("about {{ topic }}.", 'about {{ topic }}. {% include "partials/rules.md" %}')
    workshop.commit("Rules")
    partial.write_text("Be polite.", encoding="utf-8")
    with workshop.teacher(by_template("rude", "kind", "polite")):
        found = compared(workshop, rows=2)
    assert isinstance(found, DiffReport)
    trials = (found.samples[0].before, found.samples[0].after)
    assert [trial.messages[0]["content"].partition("Be ")[2] for trial in trials] == ["brief.", "polite."]
    (change,) = found.changes
    assert (change.name, change.lines[-2:]) == ("partials/rules.md", ("-Be brief.", "+Be polite."))


def test_a_revision_is_whatever_git_calls_one(workshop: Workshop) -> None:
    workshop.git("tag", "first")
    workshop.edit("Write a", "Write a short")
    workshop.commit("Shorter [bold]messages[/bold]")
    assert isinstance(compared(workshop), Unchanged)
    with workshop.teacher(by_template("long", "brief")):
        found = compared(workshop, against="first", rows=2)
    assert isinstance(found, DiffReport) and found.subject == "The first templates"


def test_an_unchanged_template_says_so_and_asks_nobody(workshop: Workshop) -> None:
    workshop.edit("purpose: Write a customer's message.", "purpose: Something else.")
    found = compared(workshop)
    assert isinstance(found, Unchanged) and "there is nothing to compare" in found.as_text()
    done = retune(workshop.home.root, "prompts", "diff", str(workshop.template), "--recipe", workshop.recipe)
    assert done.returncode == 0 and "there is nothing to compare" in done.stdout


@pytest.mark.parametrize("revision", ["nope", "--output=/tmp/x", "HEAD~7", "", "HEAD:prompts"])
def test_an_unknown_revision_is_named(workshop: Workshop, revision: str) -> None:
    with pytest.raises(PromptError, match="There is no revision"):
        compared(workshop, against=revision)


def test_a_template_that_the_revision_does_not_have_is_named(workshop: Workshop) -> None:
    new = workshop.prompts / "new_message.md"
    new.write_text(WRITE.replace("write_message", "new_message"), encoding="utf-8")
    with pytest.raises(PromptError, match="is not in 'HEAD'") as caught:
        diff(str(new), workshop.recipe, workshop.home, against="HEAD", rows=2, documents=str(workshop.documents))
    preview = f"RETUNE_HOME={workshop.home.root} retune prompts preview {new} --run --recipe {workshop.recipe}"
    assert caught.value.remedy.endswith(preview)


def test_a_template_outside_of_git_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    (tmp_path / "write_message.md").write_text(WRITE, encoding="utf-8")
    with (
        pytest.raises(PromptError, match="not in a readable Git repository"),
        committed(tmp_path / "write_message.md", "HEAD", TEMPLATE),
    ):
        pass


def test_a_link_that_leads_out_of_the_committed_folder_is_refused(workshop: Workshop) -> None:
    (workshop.prompts / "partials").symlink_to("/etc")
    workshop.commit("A link")
    with pytest.raises(PromptError, match="cannot be unpacked"), committed(workshop.template, "HEAD", TEMPLATE):
        pass


def test_a_committed_template_that_cannot_be_read_is_placed_in_its_revision(workshop: Workshop) -> None:
    workshop.edit("{{ topic }}", "{{ subject }}")
    workshop.commit("Broken")
    workshop.edit("{{ subject }}", "{{ topic }}")
    with pytest.raises(PromptError, match="committed template cannot be read") as caught:
        compared(workshop)
    assert ":write_message.md:13" in caught.value.where and "/tmp" not in caught.value.where


def test_a_new_variable_narrows_the_documents_to_those_that_both_can_use(workshop: Workshop) -> None:
    rows = [json.loads(line) for line in workshop.documents.read_text(encoding="utf-8").splitlines()]
    for number, row in enumerate(rows):
        row |= {"queue": "cards"} if number % 2 else {}
    workshop.documents.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    workshop.edit("  topic: {from: document}", "  topic: {from: document}\n  queue: {from: document}")
    workshop.edit("Write a", "For {{ queue }}, write a")
    with workshop.teacher(writes("hello")):
        found = compared(workshop)
    assert isinstance(found, DiffReport)
    assert {sample.after.document_id for sample in found.samples} == {f"d{number}" for number in range(1, 12, 2)}


class Page(HTMLParser):
    """What a page is made of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.text = ""
        self.marked = {"del": "", "ins": ""}
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "action", "data")]
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._open and self._open[-1] in self.marked:
            self.marked[self._open[-1]] += data


def test_the_page_is_one_file_that_asks_nobody_for_anything() -> None:
    page = diff_page(report([kept("a", "one")], [kept("a", "two")]))
    found = Page(page)
    assert not found.tags & {"script", "link", "img", "iframe", "object", "form"} and found.links == []
    assert "http:" not in page and "https:" not in page and "@import" not in page and "url(" not in page
    assert "prefers-color-scheme: dark" in page and "@media print" in page


def test_hostile_text_is_text_on_the_page_and_in_the_terminal() -> None:
    hostile = report([refused(HOSTILE, HOSTILE)], [kept(HOSTILE, HOSTILE)], text=f"Write {HOSTILE}")
    page = diff_page(hostile)
    found = Page(page)
    assert "script" not in found.tags and "<script>alert(1)</script>" in found.text
    for code in ("\x1b", "\u202e", "\x00"):
        assert code not in page
    console = Console(file=io.StringIO(), width=120, force_terminal=True, color_system="standard", highlight=False)
    print_diff(console, hostile)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "[bold]x[/bold]" in text and "\x1b[31mred" not in text and "\u202e" not in text and "\x00" not in text


def test_the_page_shows_fates_marks_words_and_says_what_is_left_out() -> None:
    count = MOST_SAMPLES + 3
    before = [kept(f"d{number}", "I lost my card in a taxi") for number in range(count)]
    after = [kept(f"d{number}", "I lost my card in a train") for number in range(count - 1)]
    found = Page(diff_page(report(before, [*after, truncated(f"d{count - 1}")])))
    assert "lost: 1; gained: 0; kept by both: 62; kept by neither: 0." in found.text
    assert "3 more are not on this page" in found.text and "truncated: the answer ran into max_tokens" in found.text
    assert "taxi" in found.marked["del"] and "train" in found.marked["ins"] and "card" not in found.marked["del"]


def test_the_command_writes_the_page_and_prints_where_it_lies(workshop: Workshop) -> None:
    workshop.edit("Write a", "Write a short")
    arguments = ["prompts", "diff", str(workshop.template), "--recipe", workshop.recipe]
    arguments += ["--documents", str(workshop.documents), "--rows", "4"]
    with workshop.teacher(by_template("long", "brief")):
        done = retune(workshop.home.root, *arguments)
        assert done.returncode == 0, done.stderr
        (page,) = workshop.home.reports.iterdir()
        assert f"page: {page}" in done.stdout and "100.0% (4 of 4)" in done.stdout
        assert "committed and edited template" in page.read_text(encoding="utf-8")
        other = workshop.root / "there" / "page.html"
        done = retune(workshop.home.root, *arguments, "--json", "--html", str(other))
    found = json.loads(done.stdout)
    assert found["changed"] and found["page"] == str(other) and other.is_file()
    assert found["comparison"]["yield_change"]["difference"] == 1.0 and len(found["samples"]) == 4


def test_documents_have_what_either_template_reads_under_a_name_that_both_have(workshop: Workshop) -> None:
    rows = [{"document_id": "both", "topic": "cards", "subject": "loans"}, {"document_id": "new", "subject": "fees"}]
    workshop.documents.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    workshop.edit("topic: {from: document}", "topic: {from: document, field: subject}")
    with workshop.teacher(by_template("a text", "another", "loans")):
        found = compared(workshop)
    assert isinstance(found, DiffReport)
    assert {sample.before.document_id for sample in found.samples} == {"both"}
    assert "cards" in found.samples[0].before.messages[0]["content"]
    assert "loans" in found.samples[0].after.messages[0]["content"]
