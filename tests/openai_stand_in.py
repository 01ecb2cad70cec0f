"""A small real HTTP server that speaks as much of vLLM's API as the client uses, with a model of a few lines.

Covers: chat answers, /tokenize, completions with prompt_logprobs, the API key, refusals (400), overlapping requests.
Does not cover: streaming, LoRA loading, structured output.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tasks.core.vllm.server import Server

KEY = "the-key"
TOO_LONG = "too long"
IM_START, IM_END = 1, 2
Chat = Callable[[str, list[dict[str, str]]], tuple[str, str]]


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
        self.lock = threading.Lock()
        self.in_flight = self.most_in_flight = 0


class _Handler(BaseHTTPRequestHandler):
    server: StandIn
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.asked.append({"path": self.path, **body})
            self.server.in_flight += 1
            self.server.most_in_flight = max(self.server.most_in_flight, self.server.in_flight)
        time.sleep(self.server.seconds)
        status, answer = self._answer(body)
        with self.server.lock:
            self.server.in_flight -= 1
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _answer(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if self.headers["Authorization"] != f"Bearer {KEY}":
            return 401, {"error": {"message": "wrong key"}}
        if self.path == "/tokenize":
            text = body["prompt"] if "prompt" in body else chatml(body["messages"], bool(body["add_generation_prompt"]))
            return 200, {"tokens": tokens(text)}
        if self.path == "/v1/completions":
            return self._completions(body)
        if TOO_LONG in body["messages"][-1]["content"]:
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
                "logprobs": None,
                "prompt_logprobs": [None]
                + [
                    {str(token): {"logprob": log_probability(prompt[:at], token), "rank": 1, "decoded_token": "?"}}
                    for at, token in enumerate(prompt)
                    if at > 0
                ],
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
    threading.Thread(target=http.serve_forever, daemon=True).start()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, text=True) as process:
        try:
            yield Server(f"http://127.0.0.1:{http.server_port}", KEY, log, process), http
        finally:
            process.kill()
            http.shutdown()
            http.server_close()
