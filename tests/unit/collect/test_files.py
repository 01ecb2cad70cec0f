"""Which files a source reads, in which order, under which names; and that none lies outside its folder."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest
import zstandard

from tasks.collect.config import FileSource
from tasks.collect.records import ReaderSettings
from tasks.collect.sources.files import FileReader
from tasks.collect.sources.formats import ENDINGS, format_of
from tasks.core.errors import SourceError

ROW = '{"text": "hi"}\n'


def reader(path: Path, **settings: Any) -> FileReader:
    return FileReader(FileSource(path=str(path), **settings), ReaderSettings(Path("snapshots"), 1000))


def rows(path: Path, **settings: Any) -> list[tuple[str, int, dict[str, Any] | None]]:
    return [(record.source, record.line, record.values) for record in reader(path, **settings).records()]


def write(path: Path, content: str | bytes = ROW) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_a_folder_of_mixed_files_is_read_in_the_order_of_paths(tmp_path: Path) -> None:
    write(tmp_path / "b" / "notes.md", "# Title\n")
    write(tmp_path / "b.csv", "text\nfrom csv\n")
    write(tmp_path / "a" / "rows.jsonl.gz", gzip.compress(ROW.encode()))
    write(tmp_path / "c.tsv", "text\tx\nfrom tsv\t1\n")
    write(tmp_path / "d.json.zst", zstandard.compress(json.dumps([{"text": "j"}]).encode()))
    write(tmp_path / "e.txt", "plain\n")
    assert rows(tmp_path) == [
        ("a/rows.jsonl.gz", 1, {"text": "hi"}),
        ("b.csv", 2, {"text": "from csv"}),
        ("b/notes.md", 1, {"text": "# Title\n"}),
        ("c.tsv", 2, {"text": "from tsv", "x": "1"}),
        ("d.json.zst", 1, {"text": "j"}),
        ("e.txt", 1, {"text": "plain\n"}),
    ]


@pytest.mark.parametrize("packed", ["", ".gz", ".zst", ".GZ"])
def test_every_ending_tells_its_format_packed_or_not(packed: str) -> None:
    assert {ending: format_of(Path(f"a.b{ending}{packed}")) for ending in ENDINGS} == ENDINGS
    assert format_of(Path(f"csv{packed}")) is None


def test_hidden_files_are_left_out_and_unknown_and_empty_ones_are_told(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl")
    write(tmp_path / ".hidden.jsonl")
    write(tmp_path / ".git" / "b.jsonl")
    write(tmp_path / "LICENSE")
    write(tmp_path / "sub" / "table.xlsx")
    write(tmp_path / "void.csv", "")
    folder = reader(tmp_path)
    assert [record.source for record in folder.records()] == ["a.jsonl"]
    assert [note.partition(":")[0] for note in folder.notes()] == ["LICENSE", "sub/table.xlsx", "void.csv"]
    assert [record.source for record in reader(tmp_path / "*").records()] == ["a.jsonl"]


def test_a_stated_format_wins_over_endings(tmp_path: Path) -> None:
    write(tmp_path / "a.txt")
    write(tmp_path / "b.log")
    assert [source for source, _, _ in rows(tmp_path, format="jsonl")] == ["a.txt", "b.log"]


def test_a_named_source_names_its_records(tmp_path: Path) -> None:
    write(tmp_path / "sub" / "a.jsonl")
    assert rows(tmp_path, name="mail")[0][0] == "mail/sub/a.jsonl"
    assert rows(tmp_path / "sub" / "a.jsonl", name="mail")[0][0] == "mail"


def test_a_glob_finds_files_in_order_and_a_name_with_brackets_is_a_name(tmp_path: Path) -> None:
    brackets = write(tmp_path / "data [2024]" / "one.jsonl")
    assert rows(brackets)[0][0] == "one.jsonl"
    for name in ("b.jsonl", "a.jsonl", "c.csv", "deep/x.jsonl"):
        write(tmp_path / "set" / name)
    (tmp_path / "set" / "d.jsonl").mkdir()
    assert [source for source, _, _ in rows(tmp_path / "set" / "*.jsonl")] == ["a.jsonl", "b.jsonl"]
    assert [source for source, _, _ in rows(tmp_path / "s*" / "**" / "x.jsonl")] == ["set/deep/x.jsonl"]


@pytest.mark.parametrize("pattern", ["*.jsonl", "", "**/*.jsonl"])
def test_a_link_out_of_the_folder_is_refused(tmp_path: Path, pattern: str) -> None:
    outside = write(tmp_path / "outside.jsonl")
    write(tmp_path / "in" / "a.jsonl")
    (tmp_path / "in" / "b.jsonl").symlink_to(outside)
    with pytest.raises(SourceError, match="points outside the source's folder") as caught:
        reader(tmp_path / "in" / pattern).check()
    assert str(outside) in caught.value.where


def test_a_linked_folder_outside_is_refused_and_a_link_inside_is_read(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.jsonl")
    (tmp_path / "in" / "b.jsonl").symlink_to("a.jsonl")
    assert [source for source, _, _ in rows(tmp_path / "in")] == ["a.jsonl", "b.jsonl"]
    write(tmp_path / "out" / "c.jsonl")
    (tmp_path / "in" / "d").symlink_to(tmp_path / "out")
    with pytest.raises(SourceError, match="points outside"):
        reader(tmp_path / "in").check()


def test_a_pattern_cannot_climb_behind_its_wildcard(tmp_path: Path) -> None:
    write(tmp_path / "secret.jsonl")
    write(tmp_path / "in" / "sub" / "a.jsonl")
    with pytest.raises(SourceError, match="cannot contain"):
        reader(tmp_path / "in" / "*" / ".." / ".." / "secret.jsonl").check()


def test_what_is_missing_or_of_no_known_format_is_told(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="does not exist") as caught:
        reader(tmp_path / "none.csv").check()
    assert caught.value.where == str(tmp_path / "none.csv")
    with pytest.raises(SourceError, match="contains no file"):
        reader(tmp_path).check()
    write(tmp_path / "a.xlsx")
    with pytest.raises(SourceError, match=r"format of a \.xlsx file"):
        reader(tmp_path).check()


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.jsonl")
    monkeypatch.setattr(Path, "open", _refuse)
    with pytest.raises(SourceError, match="Permission denied") as caught:
        reader(path).check()
    assert caught.value.where == str(path)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("b.csv", "text,text,,\nx,y,,\n", "repeats a column"),
        ("b.json", '"a scalar"', "neither a JSON list"),
        ("b.json", '{"a": [{"text": 1}], "b": [{"text": 2}]}', "several lists"),
        ("b.jsonl.gz", "not packed", "not packed with gzip"),
        ("b.parquet", "no table", "Parquet file cannot be read"),
    ],
)
@pytest.mark.parametrize("path", ["", "*"])
def test_a_file_of_a_folder_that_cannot_be_read_is_one_problem_and_the_others_are_read(
    tmp_path: Path, name: str, content: str, said: str, path: str
) -> None:
    for good in ("a.jsonl", "c.jsonl"):
        write(tmp_path / "in" / good)
    bad = write(tmp_path / "in" / name, content)
    one = reader(tmp_path / "in" / path)
    one.check()
    records = list(one.records())
    assert [(record.source, record.values is None) for record in records] == [
        ("a.jsonl", False),
        (name, True),
        ("c.jsonl", False),
    ]
    assert records[1].problem.startswith("unreadable file: ") and said in records[1].problem
    assert one.columns()[bad] is None
    with pytest.raises(SourceError, match=said):
        reader(bad).check()


def test_a_file_of_a_folder_that_may_not_be_read_stops_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a.jsonl")
    monkeypatch.setattr(Path, "open", _refuse)
    with pytest.raises(SourceError, match="Permission denied"):
        reader(tmp_path).check()


def test_a_name_that_is_no_utf_8_is_read_and_written_with_escapes(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path)
    for name, content in [
        (b"caf\xe9.jsonl", b'{"text": "hi"}'),
        (b"caf\xe9.csv", b"a,a\n"),
        (b"caf\xe9.txt", b""),
        (b"caf\xe9.x", b""),
    ]:
        Path(os.fsdecode(folder + b"/" + name)).write_bytes(content)
    one = reader(tmp_path)
    one.check()
    records = [(record.source, record.values is None) for record in one.records()]
    assert records == [("caf\\xe9.csv", True), ("caf\\xe9.jsonl", False)]
    assert set(one.digests()) == {"caf\\xe9.csv", "caf\\xe9.jsonl", "caf\\xe9.txt"}
    assert one.notes() == ["caf\\xe9.x: passed over, its ending is not a known format", "caf\\xe9.txt: empty"]
    with pytest.raises(SourceError) as caught:
        reader(Path(os.fsdecode(folder + b"/caf\xe9.csv"))).check()
    assert "caf\\xe9.csv" in caught.value.where


def _refuse(*_: Any, **__: Any) -> None:
    raise PermissionError(13, "Permission denied")


def test_digests_name_files_below_the_folder_and_change_with_their_bytes(tmp_path: Path) -> None:
    for place in ("one", "two"):
        write(tmp_path / place / "sub" / "a.jsonl")
        write(tmp_path / place / "b.csv", "text\nx\n")
    before = reader(tmp_path / "one").digests()
    assert set(before) == {"sub/a.jsonl", "b.csv"} and before == reader(tmp_path / "two").digests()
    write(tmp_path / "two" / "b.csv", "text\ny\n")
    assert before["b.csv"] != reader(tmp_path / "two").digests()["b.csv"]
