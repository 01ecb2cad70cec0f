"""Data sets in the hub's layout from a folder, and what is asked of the hub itself, over real HTTP."""

from __future__ import annotations

import gzip
import json
import random
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.collect.config import HubSource
from tasks.collect.records import ReaderSettings
from tasks.collect.sources.hub import HubReader
from tasks.core.errors import SourceError, SourceUnavailable

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def reader(hub: str | Path, columns: list[str] | None = None, **settings: Any) -> HubReader:
    source = HubSource.model_validate({"hub": str(hub), **settings})
    return HubReader(source, ReaderSettings(Path("snapshots"), 1000), columns)


class _Hub(BaseHTTPRequestHandler):
    """Answers what a data set is; what was asked is kept."""

    status = 200
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        if "/datasets/" in self.path:  # the client asks for other things in passing
            self.asked.append(self.path)
        answer = {"id": "owner/name", "sha": COMMIT, "siblings": [], "tags": []} if self.status == 200 else {}
        content = json.dumps(answer).encode()
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[_Hub]]:
    handler = type("Hub", (_Hub,), {"asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    yield handler
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_folder_is_read_row_by_row_and_named(tmp_path: Path) -> None:
    folder = tmp_path / "talks"
    folder.mkdir()
    pq.write_table(pa.table({"text": ["a", "b\0", "c"], "blob": [b"\xff"] * 3}), folder / "train.parquet")
    records = list(reader(folder, ["text"]).records())
    assert [(record.source, record.line, record.values) for record in records] == [
        ("talks", 1, {"text": "a"}),
        ("talks", 2, None),
        ("talks", 3, {"text": "c"}),
    ]
    assert "NUL" in records[1].problem and "b" in records[1].raw
    assert {record.source for record in reader(folder, ["text"], name="mail").records()} == {"mail"}
    assert ["'blob' holds bytes" in record.problem for record in reader(folder).records()] == [True, False, True]


def test_a_subset_and_a_split_are_chosen(tmp_path: Path) -> None:
    for subset in ("one", "two"):
        (tmp_path / subset).mkdir()
        for split in ("train", "test"):
            (tmp_path / subset / f"{split}.jsonl").write_text(
                json.dumps({"text": f"{subset} {split}"}), encoding="utf-8"
            )
    configs = "".join(
        f"- config_name: {name}\n  data_files:\n"
        + "".join(f"  - {{split: {split}, path: {name}/{split}.jsonl}}\n" for split in ("train", "test"))
        for name in ("one", "two")
    )
    (tmp_path / "README.md").write_text(f"---\nconfigs:\n{configs}---\n", encoding="utf-8")
    (record,) = reader(tmp_path, subset="two", split="test").records()
    assert record.values == {"text": "two test"}


def test_a_folder_is_keyed_by_its_bytes(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "train.parquet")
    before = reader(tmp_path).digests()
    assert set(before) == {"train.parquet"}
    pq.write_table(pa.table({"text": ["b"]}), tmp_path / "train.parquet")
    assert reader(tmp_path).digests() != before


def test_a_folder_that_is_missing_or_broken_is_told_with_its_split(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="the folder does not exist"):
        reader(tmp_path / "missing").check()
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "train.parquet")
    with pytest.raises(SourceError, match="cannot be loaded") as caught:
        reader(tmp_path, split="nothing").check()
    assert "nothing" in caught.value.where
    (tmp_path / "train.parquet").write_bytes(b"nonsense")
    with pytest.raises(SourceError, match="cannot be loaded"):
        reader(tmp_path).check()


@pytest.mark.parametrize("place", ["../outside.jsonl", "{outside}"], ids=["relative", "absolute"])
def test_a_folder_cannot_name_files_outside_itself(tmp_path: Path, place: str) -> None:
    outside = tmp_path / "outside.jsonl"
    outside.write_text('{"text": "secret"}\n', encoding="utf-8")
    folder = tmp_path / "set"
    folder.mkdir()
    card = f"---\nconfigs:\n- config_name: default\n  data_files: '{place.format(outside=outside)}'\n---\n"
    (folder / "README.md").write_text(card, encoding="utf-8")
    with pytest.raises(SourceError, match="outside itself"):
        list(reader(folder).records())


@pytest.mark.parametrize("name", ["../secret", "owner/../name", "a/b/c", "..", "owner/", "~/data", "hf://x", "a b"])
def test_what_is_no_id_is_refused_before_the_hub_is_asked(hub: type[_Hub], name: str) -> None:
    for ask in (reader(name).check, reader(name).digests, lambda: next(reader(name).records())):
        with pytest.raises(SourceError, match="neither the id of a data set nor a folder"):
            ask()
    assert hub.asked == []


@pytest.mark.parametrize("name", ["csv", "owner/name"])
def test_an_id_never_reads_the_files_of_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub: type[_Hub], name: str
) -> None:
    """``load_dataset`` prefers a folder of that name, and takes ``csv`` for a reader of the files beside it."""
    (tmp_path / "owner" / "name").mkdir(parents=True)
    for folder in (tmp_path, tmp_path / "owner" / "name"):
        (folder / "train.csv").write_text("text\nsecret\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match="outside itself"):
        list(reader(name, revision=COMMIT).records())


def test_a_pinned_commit_is_the_digest_and_the_hub_is_not_asked(hub: type[_Hub]) -> None:
    assert reader("owner/name", revision=COMMIT).digests() == {"commit": COMMIT}
    assert hub.asked == []


@pytest.mark.parametrize("revision", [None, "main"])
def test_without_a_pinned_commit_the_hub_says_which_it_is_once(hub: type[_Hub], revision: str | None) -> None:
    one = reader("owner/name", revision=revision)
    one.check()
    assert hub.asked == []
    one.fetch()
    assert one.digests() == {"commit": COMMIT} == one.digests()
    assert len(hub.asked) == 1 and (revision or "owner/name") in hub.asked[0]


@pytest.mark.parametrize(("status", "kind"), [(404, SourceError), (401, SourceError), (503, SourceUnavailable)])
def test_what_the_hub_refuses_is_told_and_a_retry_only_where_it_helps(
    hub: type[_Hub], status: int, kind: type[SourceError]
) -> None:
    hub.status = status
    with pytest.raises(SourceError, match="hub refused") as caught:
        reader("owner/name").digests()
    assert type(caught.value) is kind and "owner/name" in caught.value.where


def test_a_hub_that_cannot_be_reached_is_told_with_what_works_offline(
    hub: type[_Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(SourceUnavailable, match="cannot be reached") as caught:
        reader("owner/name").fetch()
    assert "local folder" in caught.value.remedy


def test_a_packed_file_that_ends_too_early_is_one_clear_error(tmp_path: Path) -> None:
    rows = "".join(json.dumps({"text": f"{random.Random(number).random()}"}) + "\n" for number in range(2_000))
    packed = gzip.compress(rows.encode())
    for damaged in (packed[: len(packed) // 2], packed[:2_000] + b"\0" * 1_000 + packed[3_000:]):
        (tmp_path / "train.jsonl.gz").write_bytes(damaged)
        with pytest.raises(SourceError, match="cannot be loaded"):
            list(reader(tmp_path).records())
