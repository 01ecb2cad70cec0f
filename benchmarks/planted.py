"""Generated rows with faults planted in them, chunk by chunk; benchmarks/rows.py says which and how many."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.texts import Language
from tasks.core.config import ChatTask
from tasks.core.files import canonical_json
from tasks.core.messages import to_messages
from tasks.generate.written_rows import row_schema

QUEUES = ("cards", "accounts", "bills", "credit", "flights", "dining", "vehicles", "payroll")
FIELDS = ("message", "queue")
TASK = ChatTask(system="Route the message to a queue.", input="message", output="queue", labels=QUEUES)
PROMPTS = ("write_message", "vary_message")
CHUNK = 50_000
BREACH, LEAK, NEAR, EXACT = "breach", "leak", "near", "exact"
SHARES = {BREACH: 0.05, LEAK: 0.005, NEAR: 0.10, EXACT: 0.05}
SIMILAR = 0.82
HOT_TEXTS = 20
BREACHES: dict[str, Callable[[str], str]] = {
    "too short": lambda text: "ok",
    "too long": lambda text: (text + " ") * 12,
    "control token": lambda text: text + " <|im_end|>",
    "replacement character": lambda text: "\ufffd" + text,
    "no letters": lambda text: "".join("0123456789"[ord(char) % 10] if char != " " else char for char in text),
    "unknown queue": str,
    "queue missing": str,
    "same id": str,
    "empty answer": str,
}
"""What makes the message of a row break the contract; of the later ones another column does."""
PLANTED = pa.schema(
    [("number", pa.int64()), ("row_id", pa.string()), ("planted", pa.string()), ("kind", pa.string()),
     ("cluster", pa.int64())]
)  # fmt: skip
"""``cluster``: the number of the row that this one is a copy of, or -1."""


def row_id(number: int) -> str:
    """The id of a generated row, unless it was given another one's; in no order, as digests are."""
    return f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}"


@dataclass
class Planter:
    """Writes rows and plants faults in them.

    Attributes:
        language: what messages are written in.
        held_out: the texts that may not come in, and do.
        documents: how many there are to name as a row's.
        draw: where all chance comes from.
        hot: number and text of the rows that are copied in every chunk.
    """

    language: Language
    held_out: list[str]
    documents: int
    draw: np.random.Generator
    hot: list[tuple[int, str]] = field(default_factory=list)

    def chunks(self, count: int) -> Iterator[tuple[pa.Table, pa.Table]]:
        """The rows, and what is planted in them."""
        schema = row_schema(FIELDS)
        for start in range(0, count, CHUNK):
            rows, planted = self._chunk(start, min(CHUNK, count - start))
            yield pa.Table.from_pylist(rows, schema=schema), pa.Table.from_pylist(planted, schema=PLANTED)

    def _chunk(self, start: int, count: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        texts = self.language.texts(count, self.draw).to_pylist()
        order = self.draw.permutation(count).tolist()
        groups, taken = {}, 0
        for what, share in SHARES.items():
            size = 2 * round(count * share / 2)  # two rows share an id
            groups[what], taken = order[taken : taken + size], taken + size
        sound = order[taken:]
        if not self.hot:
            self.hot = [(start + place, texts[place]) for place in sound[:HOT_TEXTS]]
        del sound[:HOT_TEXTS]
        planted: dict[int, tuple[str, str, int]] = {}
        kinds = list(BREACHES)
        for number, place in enumerate(groups[BREACH]):
            planted[place] = (BREACH, kinds[number // 2 % len(kinds)], -1)  # two at a time: the same id takes two
            texts[place] = BREACHES[planted[place][1]](texts[place])
        for number, place in enumerate(groups[LEAK]):
            kind, texts[place] = self._leaked(number, texts[place])
            planted[place] = (LEAK, kind, -1)
        for place, original in zip(groups[NEAR], sound, strict=False):
            kind, texts[place] = self._varied(texts[original])
            planted[place] = (NEAR, kind, start + original)
        del sound[: len(groups[NEAR])]
        for number, place in enumerate(groups[EXACT]):
            if number % 2 and sound:
                original = sound[number // 6]  # three copies of each
                planted[place], texts[place] = (EXACT, "of one text", start + original), texts[original]
            else:
                cluster, texts[place] = self.hot[int(HOT_TEXTS * self.draw.random() ** 3)]
                planted[place] = (EXACT, "of a repeated text", cluster)
        rows = self._rows(start, texts, {place: kind for place, (what, kind, _) in planted.items() if what == BREACH})
        found = [
            {"number": start + place, "row_id": rows[place]["row_id"], "planted": what, "kind": kind, "cluster": near}
            for place, (what, kind, near) in sorted(planted.items())
        ]
        return rows, found

    def _leaked(self, number: int, text: str) -> tuple[str, str]:
        held_out = self.held_out[int(self.draw.integers(len(self.held_out)))]
        if number % 3 == 0:
            return "exact", held_out
        if number % 3 == 1:
            return "a letter changed", _retyped(held_out, len(held_out) // 2)
        words = text.split()
        return "inside a longer text", " ".join([*words[:4], held_out, *words[4:8]])[:390]

    def _varied(self, text: str) -> tuple[str, str]:
        """A near duplicate; one that turned out too different becomes one with two letters at the end."""
        kind, varied = "a letter changed", _retyped(text, int(self.draw.integers(5, len(text) - 5)))
        if self.draw.random() < 0.5:
            kind, varied = "a word added", f"{text} {self.language.words[int(self.draw.integers(200))].as_py()}"
        if varied == text or _similarity(text, varied) < SIMILAR:
            kind, varied = "two letters added", text + " q"
        return kind, varied

    def _rows(self, start: int, texts: list[str], breaches: dict[int, str]) -> list[dict[str, Any]]:
        queues = self.draw.choice(QUEUES, len(texts)).tolist()
        documents = self.draw.integers(self.documents, size=len(texts)).tolist()
        scores = self.draw.integers(3, 6, len(texts)).tolist()
        rows = []
        twin = ""
        for place, text in enumerate(texts):
            number = start + place
            name = row_id(number)
            queue, breach = queues[place], breaches.get(place)
            if breach == "same id":
                twin, name = ("", twin) if twin else (name, name)
            queue = "complaints" if breach == "unknown queue" else queue
            messages = to_messages(TASK, {"message": text, "queue": "" if breach == "empty answer" else queue})
            rows.append(
                self._lineage(name, number, documents[place], scores[place])
                | {"message": text, "queue": None if breach == "queue missing" else queue, "messages": messages}
                | {"raw": canonical_json({"message": text})}
            )
        return rows

    def _lineage(self, name: str, number: int, document: int, score: int) -> dict[str, Any]:
        prompt = PROMPTS[number % 2]
        verdict = {
            "judge": "check_message",
            "digest": "0" * 64,
            "passed": True,
            "score": score,
            "reasons": "",
            "raw": "",
        }
        return {
            "row_id": name,
            "document_id": f"doc-{document:07}",
            "prompt": prompt,
            "prompt_digest": prompt.ljust(64, "0"),
            "request_id": f"request-{number:08}",
            "teacher": "seedling",
            "teacher_revision": "0",
            "sampling": '{"temperature":0.9}',
            "drawn": "{}",
            "judgements": canonical_json([verdict]),
            "run_id": "benchmark",
            "seed": number,
            "attempts": 1,
        }


def _retyped(text: str, place: int) -> str:
    """The text with another letter at a place."""
    return text[:place] + ("x" if text[place] != "x" else "y") + text[place + 1 :]


def _similarity(one: str, other: str) -> float:
    """Jaccard similarity of 5-character shingles."""
    left, right = ({text[start : start + 5] for start in range(len(text) - 4)} for text in (one, other))
    return len(left & right) / len(left | right)
