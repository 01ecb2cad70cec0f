"""A small real HTTP server that speaks as much of vLLM's API as the client uses, with a model of a few lines.

Covers: chat answers, /tokenize, completions with logprob_token_ids, the API key, refusals (400), overlapping requests,
/detokenize, /health, /v1/models, /metrics, and whatever fault a test puts in place of an answer.
Does not cover: streaming, LoRA loading; a schema is recorded and not followed.

`python -m tests.openai_stand_in LOG SECONDS` serves an echo in a process of its own that can be killed: it prints its
port, writes a line to LOG for every question received and every answer given, and dies of a question that says so.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tasks.core.home import PROJECT_ROOT
from tasks.core.vllm.server import Server

KEY = "the-key"
TOO_LONG = "too long"
IM_START, IM_END = 1, 2
DEADLY = "deadly"
MODEL = {"id": "base", "object": "model", "created": 1, "owned_by": "vllm"}
Chat = Callable[[str, list[dict[str, str]]], tuple[str, str]]


@dataclass(frozen=True)
class Fault:
    """What comes in place of an answer: after ``seconds``, anything that HTTP can say."""

    status: int = 500
    content: str = '{"error": {"message": "out of order"}}'
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0


def tokens(text: str) -> list[int]:
    """A token per character, and one for each of ChatML's marks."""
    found: list[int] = []
    while text:
        for mark, token in (("<|im_start|>", IM_START), ("<|im_end|>", IM_END)):
            if text.startswith(mark):
                found.append(token)
                text = text.removeprefix(mark)
                break
        else:
            found.append(ord(text[0]))
            text = text[1:]
    return found


def chatml(messages: list[dict[str, str]], open_turn: bool) -> str:
    turns = "".join(f"<|im_start|>{turn['role']}\n{turn['content']}<|im_end|>\n" for turn in messages)
    return turns + "<|im_start|>assistant\n" if open_turn else turns


def log_probability(prefix: list[int], token: int) -> float:
    """Of a token after a prefix: any function of both will do, as long as a test can compute it again."""
    return -0.001 * ((7 * token + len(prefix) + sum(prefix[-3:])) % 1000)


class StandIn(ThreadingHTTPServer):
    """Counts what it was asked, and how much of it at the same time."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, chat: Chat, seconds: float) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.chat, self.seconds = chat, seconds
        self.asked: list[dict[str, Any]] = []
        self.got: list[str] = []
        self.fault: Callable[[dict[str, Any]], Fault | None] = lambda body: None
        self.sent: Callable[[dict[str, Any]], None] = lambda body: None
        self.pages: dict[str, Fault] = {
            "/v1/models": Fault(200, json.dumps({"object": "list", "data": [MODEL]})),
            "/health": Fault(200, ""),
        }
        self.lock = threading.Lock()
        self.in_flight = self.most_in_flight = 0


class _Handler(BaseHTTPRequestHandler):
    server: StandIn
    protocol_version = "HTTP/1.1"
    # In two packets, head and content of an answer wait 40 ms for each other (Nagle's algorithm, delayed ACKs).
    wbufsize = -1
    disable_nagle_algorithm = True

    def log_message(self, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.asked.append({"path": self.path, **body})
            self.server.in_flight += 1
            self.server.most_in_flight = max(self.server.most_in_flight, self.server.in_flight)
        fault = self.server.fault(body)
        time.sleep(fault.seconds if fault else self.server.seconds)
        if fault is None:
            status, answer = self._answer(body)
            fault = Fault(status, json.dumps(answer))
        with self.server.lock:
            self.server.in_flight -= 1
        self._send(fault)
        self.server.sent(body)

    def do_GET(self) -> None:
        self.server.got.append(self.path)
        self._send(self.server.pages.get(self.path, Fault(404)))

    def _send(self, reply: Fault) -> None:
        content = reply.content.encode()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.send_response(reply.status)
            self.send_header("Content-Type", reply.content_type)
            self.send_header("Content-Length", str(len(content)))
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)
            self.wfile.flush()

    def _answer(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if self.headers["Authorization"] != f"Bearer {KEY}":
            return 401, {"error": {"message": "wrong key"}}
        if self.path == "/tokenize":
            text = body["prompt"] if "prompt" in body else chatml(body["messages"], bool(body["add_generation_prompt"]))
            return 200, {"tokens": tokens(text)}
        if self.path == "/detokenize":
            marks = {IM_START: "<|im_start|>", IM_END: "<|im_end|>"}
            return 200, {"prompt": "".join(marks.get(token, chr(token)) for token in body["tokens"])}
        if self.path == "/v1/completions":
            return self._completions(body)
        if any(TOO_LONG in turn["content"] for turn in body["messages"]):
            return 400, {"error": {"message": "the prompt is longer than the model's context"}}
        text, finish_reason = self.server.chat(body["model"], body["messages"])
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": finish_reason}
        usage = {"prompt_tokens": 5, "completion_tokens": len(text), "total_tokens": 5 + len(text)}
        return 200, {**_head(body), "object": "chat.completion", "choices": [choice], "usage": usage}

    def _completions(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        mark = tokens(TOO_LONG)
        prompts: list[list[int]] = body["prompt"]
        if any(prompt[at : at + len(mark)] == mark for prompt in prompts for at in range(len(prompt))):
            return 400, {"error": {"message": "the prompt is longer than the model's context"}}
        choices = [
            {
                "index": index,
                "text": "x",
                "finish_reason": "length",
                "logprobs": {
                    "top_logprobs": [
                        {f"token_id:{token}": log_probability(prompt, token) for token in body["logprob_token_ids"]}
                    ]
                },
            }
            for index, prompt in enumerate(prompts)
        ]
        return 200, {**_head(body), "object": "text_completion", "choices": choices}


def _head(body: dict[str, Any]) -> dict[str, Any]:
    return {"id": "1", "created": 1, "model": body["model"]}


@contextlib.contextmanager
def stand_in(folder: Path, chat: Chat, seconds: float = 0.0) -> Iterator[tuple[Server, StandIn]]:
    """The stand-in, listening, and the handle by which the client knows it.

    Args:
        folder: for its log.
        chat: (model, messages) -> (text, finish reason).
        seconds: how long it thinks about a request.
    """
    log = folder / "vllm.log"
    log.write_text("the last line of the log\n", encoding="utf-8")
    http = StandIn(chat, seconds)
    threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True).start()
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, text=True) as process:
        try:
            yield Server(f"http://127.0.0.1:{http.server_port}", KEY, log, process), http
        finally:
            process.kill()
            http.shutdown()
            http.server_close()


@contextlib.contextmanager
def stand_in_process(folder: Path, journal: Path, seconds: float = 0.0) -> Iterator[Server]:
    """The stand-in in a process of its own, which a test may kill; ``journal`` is written by the server."""
    log = folder / "vllm.log"
    command = [sys.executable, "-m", "tests.openai_stand_in", str(journal), str(seconds)]
    with (
        log.open("w", encoding="utf-8") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, cwd=PROJECT_ROOT, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            yield Server(f"http://127.0.0.1:{port}", KEY, log, process)
        finally:
            process.kill()


def _serve_alone(journal: Path, seconds: float) -> None:
    lock = threading.Lock()

    def note(event: str, body: dict[str, Any]) -> None:
        with lock, journal.open("a", encoding="utf-8") as file:
            file.write(f"{event} {body['messages'][-1]['content']}\n")

    def received(body: dict[str, Any]) -> None:
        note("asked", body)
        if DEADLY in body["messages"][-1]["content"]:
            time.sleep(seconds / 2)
            os.kill(os.getpid(), signal.SIGKILL)

    http = StandIn(lambda model, messages: (f"{model}: {messages[-1]['content']}", "stop"), seconds)
    http.fault = received
    http.sent = lambda body: note("answered", body)
    print(http.server_port, flush=True)
    http.serve_forever()


if __name__ == "__main__":
    _serve_alone(Path(sys.argv[1]), float(sys.argv[2]))
