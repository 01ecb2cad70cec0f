"""A training set goes out in LLaMA-Factory's forms, and comes in again as it was."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.report.record import RunRecord
from retune import export as export_module
from retune.export import Export, ExportForm, export_training_set
from tasks.collect.config import DatasetInfoSource
from tasks.collect.dataset_info import resolve
from tasks.collect.forms import convert
from tasks.collect.records import ReaderSettings
from tasks.collect.sources import reader_of
from tasks.core.artifacts import ArtifactStore, StageKey, Summary
from tasks.core.characters import is_blank
from tasks.core.config import ChatTask
from tasks.core.errors import RecipeError, SourceError
from tasks.core.home import Home
from tasks.core.messages import MESSAGES, Message
from tests.flows.conftest import WriteRecipe
from tests.retune.command import retune

SCHEMA = pa.schema([("example_id", pa.string()), ("messages", MESSAGES), ("tools", pa.string())])
TOOLS = '[{"type": "function", "function": {"name": "weather"}}]'
FORMS: tuple[ExportForm, ...] = ("alpaca", "sharegpt", "openai")
Row = tuple[list[Message], str | None]


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def assistant(text: str, *calls: tuple[str | None, str]) -> Message:
    named = [{"id": number, "name": "weather", "arguments": arguments} for number, arguments in calls]
    return {"role": "assistant", "content": text} | ({"tool_calls": named} if named else {})


SYSTEM: Message = {"role": "system", "content": "s"}
PLAIN: list[Row] = [
    ([user("a"), assistant("b")], None),
    ([SYSTEM, user("a"), assistant("b"), user("c"), assistant("d")], None),
]
CALLING: Row = (
    [
        SYSTEM,
        user("Weather?"),
        assistant("", (None, '{"town": "Rom", "days": 2}')),
        {"role": "tool", "content": '{"sun": true}'},
        assistant("Sunny."),
    ],
    TOOLS,
)
NUMBERED: Row = (
    [
        user("Weather?"),
        assistant("Let me see.", ("c1", '{"town": "Rom"}'), ("c2", "{}")),
        {"role": "tool", "content": "sun", "tool_call_id": "c1"},
        {"role": "tool", "content": "rain", "tool_call_id": "c2"},
        assistant("Both."),
    ],
    TOOLS,
)


def train_set(home: Home, rows: Sequence[Row], recipe: str = "mine") -> RunRecord:
    """A night of a recipe that accepted these rows."""
    table = [
        {"example_id": f"e{number}", "messages": messages, "tools": tools}
        for number, (messages, tools) in enumerate(rows)
    ]

    def fill(folder: Path) -> Summary:
        pq.write_table(pa.Table.from_pylist(table, schema=SCHEMA), folder / "training_set.parquet")
        return Summary(rows_in=len(rows), accepted=len(rows))

    record = RunRecord.start(home, recipe, "")
    key = StageKey("validate", 1, {"rows": json.dumps(table)})
    record.stage("validate", ArtifactStore(home.artifacts).write(key, fill), 1.0, False)
    record.write()
    return record


def write(tmp_path: Path, form: ExportForm, rows: Sequence[Row]) -> Export:
    home = Home(tmp_path / "home")
    train_set(home, rows)
    return export_training_set(home, "mine", form, tmp_path / "out")


def read_back(folder: Path) -> list[Row]:
    """The exported data set through this project's own reader."""
    source = resolve(DatasetInfoSource(dataset_info=str(folder / "dataset_info.json"), dataset="mine"))
    records = list(reader_of(source, ReaderSettings(folder, max_field_bytes=2**20)).records())
    assert all(record.values is not None for record in records)
    found = [convert(record.values or {}, source, {}, ChatTask()) for record in records]
    return [(conversation.messages, conversation.tools) for conversation in found]


@pytest.mark.parametrize("form", FORMS)
def test_plain_conversations_come_back_as_they_were(tmp_path: Path, form: ExportForm) -> None:
    done = write(tmp_path, form, PLAIN)
    assert read_back(done.folder) == PLAIN
    assert (done.rows, done.skipped_there, done.calls_as_text, done.dataset) == (2, 0, False, "mine")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["home", "out"]
    assert sorted(file.name for file in done.folder.iterdir()) == ["dataset_info.json", "mine.jsonl"]


@pytest.mark.parametrize("form", ["sharegpt", "openai"])
def test_tool_turns_and_tools_come_back_as_they_were(tmp_path: Path, form: ExportForm) -> None:
    assert read_back(write(tmp_path, form, [*PLAIN, CALLING]).folder) == [*PLAIN, CALLING]


def test_openais_form_keeps_the_ids_of_calls_and_several_results(tmp_path: Path) -> None:
    done = write(tmp_path, "openai", [CALLING, NUMBERED])
    assert read_back(done.folder) == [CALLING, NUMBERED]
    assert done.skipped_there == 0
    assert done.calls_as_text and "--form sharegpt" in done.as_text()


def test_sharegpt_says_how_many_conversations_llama_factory_leaves_out(tmp_path: Path) -> None:
    done = write(tmp_path, "sharegpt", [*PLAIN, CALLING, NUMBERED])
    assert done.skipped_there == 1 and "leaves out 1 conversations" in done.as_text()
    assert [message["role"] for message in read_back(done.folder)[3][0]] == [message["role"] for message in NUMBERED[0]]


WEIGHED: Row = ([user("a"), assistant("b") | {"weight": 0}, user("c"), assistant("d")], None)


@pytest.mark.parametrize("form", ["sharegpt", "openai"])
def test_turns_of_weight_zero_come_back_and_are_counted_for_llama_factory(tmp_path: Path, form: ExportForm) -> None:
    done = write(tmp_path, form, [*PLAIN, WEIGHED])
    assert read_back(done.folder) == [*PLAIN, WEIGHED]
    assert "trains on all turns, also on the 1 of weight 0" in done.as_text()


def test_the_empty_folder_that_one_stands_in_is_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(tmp_path / "home")
    train_set(home, PLAIN)
    (home.runs / "99990101T000000Z-x").mkdir()
    (home.runs / "99990101T000000Z-x" / "report.json").write_text('{"run_id": "half', encoding="utf-8")
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    done = export_training_set(home, "mine", "sharegpt", Path())
    assert done.folder == tmp_path / "out" and read_back(Path()) == PLAIN
    assert sorted(file.name for file in tmp_path.iterdir()) == ["home", "out"]


@pytest.mark.parametrize("row", [CALLING, WEIGHED, ([user("a"), user("b"), assistant("c")], None), ([SYSTEM], None)])
def test_what_alpaca_cannot_say_is_refused_with_its_example(tmp_path: Path, row: Row) -> None:
    with pytest.raises(SourceError) as caught:
        write(tmp_path, "alpaca", [*PLAIN, row])
    assert caught.value.where == "e2" and "--form sharegpt" in caught.value.remedy
    assert [file.name for file in tmp_path.iterdir()] == ["home"]


@pytest.mark.parametrize(
    ("form", "rows", "formatting"),
    [
        ("alpaca", PLAIN, None),
        ("sharegpt", PLAIN, "sharegpt"),
        ("openai", PLAIN, "sharegpt"),
        ("openai", [CALLING], "openai"),
    ],
)
def test_the_description_is_the_one_that_llama_factory_reads_these_rows_by(
    tmp_path: Path, form: ExportForm, rows: list[Row], formatting: str | None
) -> None:
    folder = write(tmp_path, form, rows).folder
    (entry,) = json.loads((folder / "dataset_info.json").read_text(encoding="utf-8")).values()
    assert entry.get("formatting") == formatting
    row = json.loads((folder / entry["file_name"]).read_text(encoding="utf-8").splitlines()[0])
    assert set(entry["columns"].values()) == set(row)


def test_a_folder_that_holds_something_is_not_touched(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    train_set(home, PLAIN)
    kept = tmp_path / "out" / "kept.txt"
    kept.parent.mkdir()
    export_training_set(home, "mine", "sharegpt", kept.parent)
    with pytest.raises(RecipeError, match="exists already"):
        export_training_set(home, "mine", "sharegpt", kept.parent)
    file = tmp_path / "file"
    file.write_text("mine", encoding="utf-8")
    with pytest.raises(RecipeError, match="exists already"):
        export_training_set(home, "mine", "sharegpt", file)
    assert file.read_text(encoding="utf-8") == "mine"


def test_an_interruption_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(export_module, "write_json", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, "sharegpt", PLAIN)
    assert [file.name for file in tmp_path.iterdir()] == ["home"]


def test_the_last_training_set_of_this_recipe_is_taken(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    for folder, recipe, rows in (("1", "mine", PLAIN[:1]), ("2", "mine", PLAIN), ("3", "other", PLAIN[:1])):
        record = train_set(home, rows, recipe)
        (home.runs / record.run_id).rename(home.runs / f"2026-{folder}")
    failed = home.runs / "2026-4"
    failed.mkdir()
    (failed / "report.json").write_text(json.dumps({**vars(record), "recipe": "mine", "stages": {}}), encoding="utf-8")
    assert export_training_set(home, "mine", "sharegpt", tmp_path / "out").rows == 2


def test_a_recipe_without_a_training_set_is_one_clear_error(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    with pytest.raises(RecipeError, match="has no training set yet"):
        export_training_set(home, "mine", "sharegpt", tmp_path / "out")
    record = train_set(home, PLAIN)
    (Path(record.stages["validate"]["path"]) / "training_set.parquet").unlink()
    with pytest.raises(RecipeError, match="has no training set yet"):
        export_training_set(home, "mine", "sharegpt", tmp_path / "out")


def test_the_command_writes_the_folder_and_says_so(write_recipe: WriteRecipe, tmp_path: Path) -> None:
    recipe = write_recipe(lambda recipe: recipe.update(name="mine"))
    train_set(Home(tmp_path / "home"), PLAIN)
    done = retune(tmp_path / "home", "export", "--recipe", recipe, "--form", "openai", "--to", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert "2 conversations of run" in done.stdout and read_back(tmp_path / "out") == PLAIN


SAID = (
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8)
    .map(str.strip)
    .filter(lambda text: not is_blank(text))
)
PAIRS = st.lists(st.tuples(SAID, SAID), min_size=1, max_size=3)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.none() | SAID, PAIRS), min_size=1, max_size=3), st.sampled_from(FORMS))
def test_any_text_survives_the_round_trip(
    tmp_path_factory: pytest.TempPathFactory, talks: list[tuple[str | None, list[tuple[str, str]]]], form: ExportForm
) -> None:
    rows: list[Row] = [
        (
            [
                *([{"role": "system", "content": rules}] if rules else []),
                *(message for asked, said in pairs for message in (user(asked), assistant(said))),
            ],
            None,
        )
        for rules, pairs in talks
    ]
    assert read_back(write(tmp_path_factory.mktemp("export"), form, rows).folder) == rows
