"""Documents out of real files: every row ends up in one place, and the holdout is for good."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.collect.collect import CollectJob
from tasks.collect.config import CollectConfig
from tasks.collect.holdout_ledger import is_held_out
from tasks.core.artifacts import Summary
from tasks.core.config import ChatTask
from tasks.core.home import PROJECT_ROOT, Home
from tasks.core.messages import plain
from tasks.core.stage import StageContext

TASK = ChatTask(input="message", output="queue", labels=("cards", "bills"))
COLUMNS = {"message": "text", "queue": "label"}
TOKENS = ("<|endoftext|>", "<|im_end|>", "<|im_start|>")
SCRATCH = tempfile.TemporaryDirectory()
TEXT = st.text(st.characters(codec="utf-8"), max_size=12)


def job(*sources: Path | dict[str, Any], task: ChatTask = TASK, **settings: Any) -> CollectJob:
    named = [source if isinstance(source, dict) else {"path": str(source)} for source in sources]
    config = CollectConfig.model_validate({"sources": named, "columns": COLUMNS, **settings})
    return CollectJob(config, task, TOKENS, "recipe", Home(Path(tempfile.mkdtemp(dir=SCRATCH.name))))


def collect(job: CollectJob, folder: Path, read: bool = True) -> tuple[Summary, dict[str, list[dict[str, Any]]]]:
    """Fill a folder: the summary, and the rows of every file."""
    folder.mkdir(parents=True, exist_ok=True)
    summary = job.fill(folder, StageContext(Home(folder / "home"), "run", "key"))
    summary.check_balance("collect")
    if not read:
        return summary, {}
    rows = {name: pq.read_table(folder / f"{name}.parquet").to_pylist() for name in ("train", "holdout", "quarantine")}
    assert len(rows["train"]) + len(rows["holdout"]) == summary.accepted
    assert len(rows["quarantine"]) == summary.quarantined
    return summary, rows


def documents(rows: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return [*rows["train"], *rows["holdout"]]


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def write_jsonl(path: Path, rows: list[Any]) -> Path:
    return write(path, "".join(json.dumps(row) + "\n" for row in rows))


def rows_of(count: int, word: str = "message") -> list[dict[str, str]]:
    return [{"text": f"{word} {number}", "label": ("cards", "bills")[number % 2]} for number in range(count)]


MEASURE = """
import json, re, sys
from pathlib import Path
from tests.unit.collect.test_collect import collect, job
summary, _ = collect(job(Path(sys.argv[1]), columns={}), Path(sys.argv[2]), read=False)
peak = re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]  # rusage counts the parent's as well
print(json.dumps([summary.accepted, int(peak) / 1024]))
"""


@pytest.mark.slow
def test_memory_follows_the_batch_and_not_the_size_of_the_rows(tmp_path: Path) -> None:
    """50 MiB in rows of 2 MiB: far fewer than a batch has rows."""
    with (tmp_path / "a.jsonl").open("w", encoding="utf-8") as file:
        for number in range(24):
            file.write(json.dumps({"text": f"{number} " + "word " * 420_000}) + "\n")
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "a.jsonl"), str(tmp_path / "out")]
    done = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    accepted, peak_mib = json.loads(done.stdout.splitlines()[-1])
    assert accepted == 24 and peak_mib < 400


def test_a_row_becomes_a_document_with_its_conversation_and_its_place(tmp_path: Path) -> None:
    source = write(tmp_path / "a.csv", "id,text,label\n7, lost my card ,cards\n")
    task = TASK.model_copy(update={"system": "Route."})
    _, rows = collect(job(source, task=task, id_column="id"), tmp_path / "out")
    (document,) = documents(rows)
    document["messages"] = plain(document["messages"])
    assert document == {
        "document_id": "7",
        "source": "a.csv",
        "line": 2,
        "licence": None,
        "message": "lost my card",
        "queue": "cards",
        "messages": [
            {"role": "system", "content": "Route."},
            {"role": "user", "content": "lost my card"},
            {"role": "assistant", "content": "cards"},
        ],
        "tools": None,
    }


def test_files_of_several_sources_and_formats_are_read_in_order(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "day" / "2.jsonl", rows_of(2, "two"))
    write_jsonl(tmp_path / "day" / "1.jsonl", rows_of(2, "one"))
    pq.write_table(pa.Table.from_pylist(rows_of(2, "parquet")), tmp_path / "a.parquet")
    odd = write(tmp_path / "odd.txt", "text,label\ncsv 0,cards\n")
    summary, rows = collect(
        job(tmp_path / "day" / "*.jsonl", tmp_path / "a.parquet", {"path": str(odd), "format": "csv"}), tmp_path / "out"
    )
    assert summary.details.sources == {"1.jsonl": 2, "2.jsonl": 2, "a.parquet": 2, "odd.txt": 1}
    assert list(summary.details.sources) == ["1.jsonl", "2.jsonl", "a.parquet", "odd.txt"]
    assert len(documents(rows)) == 7


def test_rows_of_several_forms_become_conversations(tmp_path: Path) -> None:
    talk = [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]
    turns = [{"role": "user", "content": "where?"}, {"role": "assistant", "content": "there"}]
    sources = [
        write_jsonl(tmp_path / "a.jsonl", [{"conversations": talk}]),
        write_jsonl(tmp_path / "b.jsonl", [{"messages": turns}]),
        write_jsonl(tmp_path / "c.jsonl", [{"instruction": "add", "input": "1 1", "output": "2"}]),
        write(tmp_path / "d.md", "# A passage"),
    ]
    summary, rows = collect(job(*sources, task=ChatTask(system="Be kind."), columns={}), tmp_path / "out")
    assert summary.accepted == 4
    told = {document["source"]: document for document in documents(rows)}
    assert [turn["content"] for turn in told["a.jsonl"]["messages"]] == ["Be kind.", "hi", "hello"]
    assert [turn["content"] for turn in told["b.jsonl"]["messages"]] == ["Be kind.", "where?", "there"]
    assert told["c.jsonl"]["output"] == "2" and told["c.jsonl"]["text"] is None
    assert told["d.md"]["messages"] == [] and told["d.md"]["text"] == "# A passage"
    assert summary.details.conversations["train"] + summary.details.conversations["holdout"] == 3


def test_what_must_not_come_in_is_counted_by_kind_and_kept_out(tmp_path: Path) -> None:
    texts = ["mail ann@example.com", "say <|im_start|>system", "all clean"]
    source = write_jsonl(tmp_path / "a.jsonl", [{"text": text, "label": "cards"} for text in texts])
    summary, rows = collect(job(source), tmp_path / "out")
    assert summary.accepted == 3
    said = " ".join(document["message"] for document in documents(rows))
    assert "ann@example.com" not in said and "<|im_start|>" not in said and "all clean" in said
    assert sum(summary.details.found.values()) == 2


def test_a_document_without_an_allowed_licence_is_refused(tmp_path: Path) -> None:
    rows = [{**row, "licence": licence} for row, licence in zip(rows_of(3), ("MIT", "", "secret"), strict=True)]
    source = {"path": str(write_jsonl(tmp_path / "a.jsonl", rows)), "licence_column": "licence"}
    summary, found = collect(job(source, hygiene={"licences": ["mit"]}), tmp_path / "out")
    assert summary.details.rules == {"licence": 2}
    assert [document["licence"] for document in documents(found)] == ["MIT"]


def test_rows_that_break_a_rule_are_quarantined_with_rule_and_raw_text(tmp_path: Path) -> None:
    source = write(
        tmp_path / "a.csv",
        "id,text,label\n1,hello,cards\n2,hello there,boats\n3,,cards\n1,something else,bills\n4,hello,cards\n5,a,b,c\n",
    )
    summary, rows = collect(job(source, id_column="id"), tmp_path / "out")
    assert (summary.rows_in, summary.accepted, summary.quarantined, summary.duplicates) == (6, 1, 4, 1)
    assert summary.details.rules == {"unknown_label": 1, "missing": 1, "duplicate_id": 1, "unreadable": 1}
    assert [row["line"] for row in rows["quarantine"]] == [3, 4, 7, 5]
    assert "'boats'" in rows["quarantine"][0]["rule"] and "hello there" in rows["quarantine"][0]["raw"]
    assert rows["quarantine"][2]["raw"] == "5,a,b,c"
    assert {row["source"] for row in rows["quarantine"]} == {"a.csv"}


def test_text_that_cannot_be_stored_is_quarantined_and_stops_nothing(tmp_path: Path) -> None:
    """Bytes that are not UTF-8, in a mapped and in another column, and half of a surrogate pair in valid JSON."""
    csv = write(tmp_path / "a.csv", b"text,label,note\ncaf\xe9,cards,x\nhello,cards,\xff\nnul \x00 byte,bills,x\n")
    lines = b'{"text": "\\ud800", "label": "cards"}\n{"text": "x", "label": "\\udfff"}\n\xff\n'
    jsonl = write(tmp_path / "a.jsonl", lines)
    summary, rows = collect(job(csv, jsonl), tmp_path / "out")
    assert summary.details.rules == {"unreadable": 5}
    assert [document["message"] for document in documents(rows)] == ["hello"]
    assert "caf" in rows["quarantine"][0]["raw"] and "ud800" in rows["quarantine"][2]["raw"]


def test_only_rows_with_a_wanted_value_are_counted(tmp_path: Path) -> None:
    rows = [{**row, "split": split} for row, split in zip(rows_of(6), "aabbcc", strict=True)]
    source = write_jsonl(tmp_path / "a.jsonl", rows)
    summary, found = collect(job(source, where={"split": ("a", "c")}), tmp_path / "out")
    assert summary.rows_in == 4
    assert {document["message"] for document in documents(found)} == {f"message {n}" for n in (0, 1, 4, 5)}


def test_files_exist_with_their_columns_even_when_no_row_came(tmp_path: Path) -> None:
    summary, rows = collect(job(write(tmp_path / "a.csv", "text,label\n")), tmp_path / "out")
    assert summary.rows_in == 0 and not documents(rows)
    names = pq.read_schema(tmp_path / "out" / "train.parquet").names
    assert names == ["document_id", "source", "line", "licence", "message", "queue", "messages", "tools"]


def test_a_source_without_any_row_is_told_beside_others(tmp_path: Path) -> None:
    full = write_jsonl(tmp_path / "full.jsonl", [{**row, "split": "a"} for row in rows_of(3)])
    header = write(tmp_path / "header.csv", "text,label,split\n")
    unwanted = write(tmp_path / "unwanted.csv", "text,label,split\nhello,cards,b\n")
    sources = (full, header, write(tmp_path / "void.csv", ""), unwanted)
    summary, _ = collect(job(*sources, where={"split": ("a",)}), tmp_path / "out")
    assert summary.details.notes == [f"source 2 ({header}): no rows", "void.csv: empty"]


def test_the_holdout_never_changes_when_documents_are_added_or_moved(tmp_path: Path) -> None:
    old = rows_of(60)
    _, before = collect(job(write_jsonl(tmp_path / "a.jsonl", old)), tmp_path / "one")
    _, after = collect(job(write_jsonl(tmp_path / "a.jsonl", rows_of(40, "new") + old[::-1])), tmp_path / "two")
    assert before["holdout"] and before["train"]
    for split in ("holdout", "train"):
        kept = {document["document_id"] for document in before[split]}
        assert kept <= {document["document_id"] for document in after[split]}


@given(st.floats(0.05, 0.95), st.text(max_size=5))
@settings(max_examples=20, deadline=None)
def test_the_holdout_is_about_its_fraction_whatever_the_salt(fraction: float, salt: str) -> None:
    share = sum(is_held_out(f"msg-{number}", fraction, salt) for number in range(2000)) / 2000
    assert abs(share - fraction) < 6 * (fraction * (1 - fraction) / 2000) ** 0.5


@given(
    st.lists(
        st.fixed_dictionaries(
            {"text": TEXT | st.none() | st.integers(), "label": st.sampled_from(["cards", "bills", "x"])}
        )
    )
)
@settings(max_examples=30, deadline=None)
def test_every_row_of_any_table_is_counted_once(rows: list[dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        if rows:
            source = write_jsonl(Path(folder) / "a.jsonl", rows)
            summary, found = collect(job(source), Path(folder) / "out")
            assert summary.rows_in == len(rows)
            contents = [(document["message"], document["queue"]) for document in documents(found)]
            assert len(set(contents)) == len(contents)


@given(st.binary(max_size=60), st.sampled_from(["csv", "jsonl"]))
@settings(max_examples=60, deadline=None)
def test_any_bytes_after_a_good_row_stop_nothing(content: bytes, kind: str) -> None:
    heads = {"csv": b"text,label\ngood,cards\n", "jsonl": b'{"text": "good", "label": "cards"}\n'}
    with tempfile.TemporaryDirectory() as folder:
        source = write(Path(folder) / f"a.{kind}", heads[kind] + content)
        summary, found = collect(job(source), Path(folder) / "out")
        assert summary.rows_in >= 1
        assert "good" in {document["message"] for document in documents(found)}


def test_the_key_changes_with_every_source_byte_and_setting_and_not_with_the_place(tmp_path: Path) -> None:
    first = tmp_path / "one" / "a.jsonl"
    key = job(write_jsonl(first, rows_of(3))).key().hex
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    second = tmp_path / "two" / "a.jsonl"
    assert job(second).key().hex == key
    assert job(second, holdout_fraction=0.3).key().hex != key
    assert job(second, task=TASK.model_copy(update={"system": "x"})).key().hex != key
    write(second, first.read_bytes().replace(b"message 2", b"message 3"))
    assert job(second).key().hex != key


def test_the_key_tells_files_of_one_name_in_several_folders_apart(tmp_path: Path) -> None:
    for day in "ab":
        write_jsonl(tmp_path / day / "rows.jsonl", rows_of(1, day))
    before = job(tmp_path / "*" / "rows.jsonl").key().hex
    write_jsonl(tmp_path / "a" / "rows.jsonl", rows_of(1, "changed"))
    assert job(tmp_path / "*" / "rows.jsonl").key().hex != before


def test_a_reserved_field_name_is_refused() -> None:
    with pytest.raises(ValueError, match="reserved"):
        CollectConfig.model_validate({"sources": [{"path": "x.csv"}], "columns": {"line": "text"}})


def test_a_local_folder_in_the_hubs_layout_is_read_and_keyed_by_its_bytes(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    pq.write_table(pa.Table.from_pylist(rows_of(5)), folder / "train.parquet")
    hub = {"hub": str(folder), "split": "train"}
    summary, rows = collect(job(hub), tmp_path / "out")
    assert summary.accepted == 5 and {document["source"] for document in documents(rows)} == {"set"}
    assert sorted(document["line"] for document in documents(rows)) == [1, 2, 3, 4, 5]
    key = job(hub).key().hex
    moved = tmp_path / "deep" / "set"
    moved.parent.mkdir()
    folder.rename(moved)
    hub = {"hub": str(moved), "split": "train"}
    assert job(hub).key().hex == key
    pq.write_table(pa.Table.from_pylist(rows_of(6)), moved / "train.parquet")
    assert job(hub).key().hex != key
