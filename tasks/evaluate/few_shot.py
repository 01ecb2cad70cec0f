"""The base with examples in its prompt: whether tuning was needed at all."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import Any

from tasks.core.messages import for_server, turn_text
from tasks.evaluate.answers import read_conversations
from tasks.evaluate.inference import Question


def draw_examples(path: Path, count: int, labels: Sequence[str], replay: Collection[str]) -> list[Any]:
    """Conversations of training documents, in the order of a hash of their ids; the labels take turns.

    ``path``: the documents that are not held out; those of the sources ``replay`` are left out.
    """
    documents, _ = read_conversations(path, None, replay)
    conversations = documents["messages"].tolist()
    if labels:
        by_label: dict[str, list[Any]] = {label: [] for label in labels}
        for messages in conversations:
            by_label.get(turn_text(messages[-1]), []).append(messages)
        conversations = [one for one in chain(*zip_longest(*by_label.values())) if one is not None]
    return list(islice(conversations, count))


def with_examples(question: Question, examples: Sequence[Any]) -> Question:
    """The question after the turns of the examples, whose own system turns are left out."""
    system = [turn for turn in question.messages if turn["role"] == "system"]
    asked = [turn for turn in question.messages if turn["role"] != "system"]
    shown = [turn for messages in examples for turn in for_server(messages) if turn["role"] != "system"]
    return Question([*system, *shown, *asked], question.tools)
