"""Object storage, against a local server that speaks S3."""

from __future__ import annotations

import gzip
import re
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tasks.collect.config import ObjectSource
from tasks.collect.records import ReaderSettings, Record
from tasks.collect.sources.objects import ObjectReader
from tasks.core.errors import SourceError, SourceUnavailable
from tests.object_store import client_of, object_store

BUCKET = "documents"
SECRET = "very-secret-indeed"


class Store:
    """A bucket of the local server."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._client = client_of(url)

    def empty(self) -> None:
        urllib.request.urlopen(urllib.request.Request(f"{self.url}/moto-api/reset", method="POST")).close()
        self._client.create_bucket(Bucket=BUCKET)

    def put(self, objects: Mapping[str, str | bytes]) -> None:
        for key, body in objects.items():
            self._client.put_object(Bucket=BUCKET, Key=key, Body=body if isinstance(body, bytes) else body.encode())

    def delete(self, key: str) -> None:
        self._client.delete_object(Bucket=BUCKET, Key=key)


@pytest.fixture(scope="module")
def running() -> Iterator[Store]:
    with object_store() as url:
        yield Store(url)


@pytest.fixture
def store(running: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A server with one empty bucket, whose credentials are in the environment."""
    monkeypatch.setenv("STORE_KEY", "AKIAEXAMPLE")
    monkeypatch.setenv("STORE_SECRET", SECRET)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    running.empty()
    return running


def reader(store: Store, folder: Path, url: str = f"s3://{BUCKET}/in/", **settings: Any) -> ObjectReader:
    options = {"endpoint_url": store.url, "key": "${STORE_KEY}", "secret": "${STORE_SECRET}"}
    source = {"object": url, "options": {**options, **settings.pop("options", {})}, **settings}
    return ObjectReader(ObjectSource.model_validate(source), ReaderSettings(folder / "snapshots", 10_000))


def fetched(one: ObjectReader) -> list[Record]:
    one.fetch()
    return list(one.records())


def rows(one: ObjectReader) -> list[tuple[str, int, Any]]:
    return [(record.source, record.line, (record.values or {}).get("text")) for record in fetched(one)]


def test_a_prefix_is_read_in_the_order_of_its_names_whatever_the_formats(store: Store, tmp_path: Path) -> None:
    objects: dict[str, str | bytes] = {
        "in/": "",
        "in/b.jsonl": '{"text": "b"}\n{"te',
        "in/deep/a.csv": "text\na\n",
        "in/c.jsonl.gz": gzip.compress(b'{"text": "c"}\n'),
        "in/picture.png": "?",
        "inside/d.txt": "not below the prefix",
        "d.txt": "nor this",
    }
    store.put(objects)
    one = reader(store, tmp_path)
    records = fetched(one)
    assert [(record.source, record.line, bool(record.values)) for record in records] == [
        ("b.jsonl", 1, True),
        ("b.jsonl", 2, False),
        ("c.jsonl.gz", 1, True),
        ("deep/a.csv", 2, True),
    ]
    assert records[1].raw == '{"te' and list(one.digests()) == ["b.jsonl", "c.jsonl.gz", "deep/a.csv"]
    assert one.notes() == ["picture.png: passed over, its ending is not a known format"]
    assert one.fetched == {"objects": 3, "downloaded_objects": 3}


@pytest.mark.parametrize(
    ("url", "read"),
    [
        (f"s3://{BUCKET}/in/a.txt", [("a.txt", 1, "a")]),
        (f"s3://{BUCKET}/in/*.txt", [("a.txt", 1, "a"), ("b.txt", 1, "b")]),
        (f"s3://{BUCKET}/in/**/*.txt", [("a.txt", 1, "a"), ("b.txt", 1, "b"), ("deep/c.txt", 1, "c")]),
        (f"s3://{BUCKET}/in/[bc].*", [("b.txt", 1, "b")]),
        (f"s3://{BUCKET}/in/deep/", [("c.txt", 1, "c")]),
    ],
)
def test_an_object_a_glob_and_a_prefix(store: Store, tmp_path: Path, url: str, read: list[Any]) -> None:
    store.put({"in/a.txt": "a", "in/b.txt": "b", "in/deep/c.txt": "c"})
    assert rows(reader(store, tmp_path, url)) == read


def test_only_changed_objects_are_downloaded_and_deleted_ones_leave(store: Store, tmp_path: Path) -> None:
    store.put({"in/a.txt": "a", "in/b.txt": "b", "in/c.txt": "c"})
    one = reader(store, tmp_path)
    one.fetch()
    first = dict(one.digests())
    one.fetch()
    assert one.fetched == {"objects": 3, "downloaded_objects": 0} and one.digests() == first
    store.put({"in/b.txt": "B"})
    store.delete("in/c.txt")
    assert rows(one) == [("a.txt", 1, "a"), ("b.txt", 1, "B")]
    assert one.fetched == {"objects": 2, "downloaded_objects": 1}
    assert one.digests()["a.txt"] == first["a.txt"] and one.digests()["b.txt"] != first["b.txt"]


def test_a_prefix_that_was_emptied_is_an_error_and_the_snapshot_stays(store: Store, tmp_path: Path) -> None:
    store.put({"in/a.txt": "a"})
    one = reader(store, tmp_path)
    one.fetch()
    store.delete("in/a.txt")
    with pytest.raises(SourceError, match="nothing to read"):
        one.fetch()
    assert [record.values for record in one.records()] == [{"text": "a"}]


def test_names_cannot_climb_out_of_the_snapshot(store: Store, tmp_path: Path) -> None:
    names = [
        "../../../escaped.txt",
        "/etc/escaped.txt",
        "a/../../b.txt",
        "x" * 900 + ".txt",
        "ä ${HOME}.txt",
        "CON.txt",
    ]
    store.put({f"in/{name}": name for name in names})
    one = reader(store, tmp_path)
    assert sorted(text for _, _, text in rows(one)) == sorted(names)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert all(path.parent.parent == tmp_path / "snapshots" for path in written)
    assert all(re.fullmatch(r"[0-9a-f]{32}\.text|state\.json|lock", path.name) for path in written)


def test_two_objects_of_the_same_content_are_both_read(store: Store, tmp_path: Path) -> None:
    store.put({"in/a.txt": "same", "in/b.txt": "same"})
    one = reader(store, tmp_path)
    assert rows(one) == [("a.txt", 1, "same"), ("b.txt", 1, "same")]
    store.delete("in/a.txt")
    assert rows(one) == [("b.txt", 1, "same")]


def test_more_objects_than_are_downloaded_at_a_time(store: Store, tmp_path: Path) -> None:
    store.put({f"in/{number:03}.txt": str(number) for number in range(70)})
    assert [text for _, _, text in rows(reader(store, tmp_path))] == [str(number) for number in range(70)]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3://nowhere/in/", "bucket does not exist"),
        ("s3://nowhere/a.txt", "bucket does not exist"),
        (f"s3://{BUCKET}/in/missing.txt", "no such bucket or object"),
        (f"s3://{BUCKET}/missing/", "nothing to read"),
        (f"s3://{BUCKET}/in/*.csv", "nothing to read"),
        (f"s3://{BUCKET}/in", "a prefix, not an object"),
        (f"s3://{BUCKET}/other/", "none of 1 objects has a known ending"),
    ],
)
def test_what_is_not_there_is_one_clear_error(store: Store, tmp_path: Path, url: str, said: str) -> None:
    store.put({"in/a.txt": "a", "other/a.bin": "b"})
    with pytest.raises(SourceError, match=said) as caught:
        reader(store, tmp_path, url).fetch()
    assert not caught.value.retryable and caught.value.where == url and caught.value.remedy


def test_missing_credentials_are_an_error(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    source = ObjectSource(object=f"s3://{BUCKET}/in/", options={"endpoint_url": store.url})
    with pytest.raises(SourceError, match="credentials") as caught:
        ObjectReader(source, ReaderSettings(tmp_path, 100)).fetch()
    assert not caught.value.retryable


def test_wrong_credentials_are_an_error_that_does_not_show_them(tmp_path: Path, store: Store) -> None:
    """The local server checks none, so that a small one refuses here as S3 does."""

    class Refuses(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = f"<Error><Code>InvalidAccessKeyId</Code><Message>no {SECRET}</Message></Error>".encode()
            self.send_response(403)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Refuses)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        one = reader(store, tmp_path, options={"endpoint_url": f"http://127.0.0.1:{server.server_port}"})
        with pytest.raises(SourceError, match="refused") as caught:
            one.fetch()
    finally:
        server.shutdown()
        server.server_close()
    assert not caught.value.retryable and SECRET not in str(caught.value) and "${STORE_SECRET}" in str(caught.value)


def test_a_store_that_is_away_is_worth_another_try(store: Store, tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailable, match="does not answer") as caught:
        reader(store, tmp_path, options={"endpoint_url": "http://127.0.0.1:9"}).fetch()
    assert caught.value.retryable and SECRET not in str(caught.value)


def test_another_endpoint_behind_the_same_recipe_is_read_anew_and_new_credentials_are_not(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put({"in/a.txt": "a"})
    one = reader(store, tmp_path, options={"endpoint_url": "${STORE_URL}"})
    monkeypatch.setenv("STORE_URL", store.url)
    one.fetch()
    monkeypatch.setenv("STORE_SECRET", "rotated-secret")
    one.fetch()
    assert one.fetched["downloaded_objects"] == 0
    monkeypatch.setenv("STORE_URL", store.url.replace("127.0.0.1", "localhost"))
    one.fetch()
    assert one.fetched["downloaded_objects"] == 1


def test_keys_that_differ_in_slashes_alone_are_different_objects(store: Store, tmp_path: Path) -> None:
    store.put({"in/a.txt": "one", "in//a.txt": "two", "in/b.txt": "three"})
    assert rows(reader(store, tmp_path)) == [("/a.txt", 1, "two"), ("a.txt", 1, "one"), ("b.txt", 1, "three")]


@pytest.mark.parametrize(("below", "known_as"), [("a.txt", "desk"), ("", "desk/a.txt"), ("*.txt", "desk/a.txt")])
def test_documents_are_known_by_the_sources_name(store: Store, tmp_path: Path, below: str, known_as: str) -> None:
    store.put({"in/a.txt": "a"})
    assert rows(reader(store, tmp_path, f"s3://{BUCKET}/in/{below}", name="desk")) == [(known_as, 1, "a")]


def test_no_secret_is_stored(store: Store, tmp_path: Path) -> None:
    store.put({"in/a.txt": "a"})
    reader(store, tmp_path).fetch()
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("file:///etc/passwd", "not a supported object store"),
        ("/etc/passwd", "not a supported object store"),
        ("memory://a.txt", "not a supported object store"),
        ("http://169.254.169.254/latest/", "not a supported object store"),
        ("simplecache::s3://documents/in/", "not a supported object store"),
        ("s3://documents/in.zip::file:///etc/passwd", "not a supported object store"),
        ("zip://a.txt::s3://documents/in.zip", "not a supported object store"),
        ("gs://documents/in/", "not installed"),
        ("s3://${NO_SUCH_BUCKET}/in/", "NO_SUCH_BUCKET is not set"),
    ],
)
def test_what_is_no_object_store_is_refused_before_anything_runs(
    tmp_path: Path, url: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_SUCH_BUCKET", raising=False)
    with pytest.raises(SourceError, match=said):
        ObjectReader(ObjectSource(object=url), ReaderSettings(tmp_path, 100)).check()
