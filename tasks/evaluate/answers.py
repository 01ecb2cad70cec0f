"""Tables of the documents that are asked or shown, and of the answers."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from tasks.core import tables
from tasks.core.messages import plain, turn_text
from tasks.core.reasoning import without_reasoning
from tasks.evaluate.inference import FEW_SHOT, REFUSED, Replies
from tasks.evaluate.metrics import METRICS

MODELS = ("base", "candidate", "champion")
READINGS = ("base", "base_restricted", FEW_SHOT, "candidate", "champion")
"""The scored readings: each model's own answers, and the base's restricted to labels, and after examples."""


def read_conversations(path: Path, max_rows: int | None, replay: Collection[str] = ()) -> tuple[pd.DataFrame, int]:
    """Rows ``document_id``, ``messages`` and ``tools`` in the order of a hash of their ids: new rows do not disturb it.

    Documents without a conversation are left out, and those of the sources ``replay``, whose number is returned too.
    """
    columns = ["document_id", "messages", "tools", *(["source"] if replay else [])]
    documents = pd.read_parquet(path, columns=columns)
    documents = documents[documents["messages"].map(len) > 0].astype({"tools": object})
    is_replay = pd.Series(False, index=documents.index)
    for name in replay:  # the files of a source are named SOURCE/FILE
        is_replay |= (documents["source"] == name) | documents["source"].str.startswith(f"{name}/")
    documents, unasked = documents[~is_replay].drop(columns="source", errors="ignore"), int(is_replay.sum())
    documents["messages"] = documents["messages"].map(plain)
    documents["tools"] = documents["tools"].where(documents["tools"].notna(), None)
    rank = documents["document_id"].map(lambda name: hashlib.sha256(name.encode()).hexdigest())
    return documents.iloc[rank.argsort(kind="stable")[:max_rows]].reset_index(drop=True), unasked


def answer_table(holdout: pd.DataFrame, replies: Replies, metric: str) -> pd.DataFrame:
    """One row per document: question, reference, and per reading the answer, its score and its finish reason.

    Answers are without the model's reasoning, which is not scored; one that only reasons is empty.
    Readings that were not requested have null columns, so that the columns are constant, except those of the learning
    curve's models, which come last.
    """
    score = METRICS[metric]
    table = pd.DataFrame(
        {
            "document_id": holdout["document_id"].astype("string"),
            "question": [turn_text(messages[-2]) for messages in holdout["messages"]],
            "reference": [turn_text(messages[-1]) for messages in holdout["messages"]],
        }
    )
    smaller = [name for name in replies.answers if name not in READINGS]
    for reading in (*READINGS, *smaller):
        answers: list[str | None] = [
            without_reasoning(answer.text) or "" for answer in replies.answers.get(reading, [])
        ]
        texts = (replies.restricted if reading == "base_restricted" else answers) or [None] * len(table)
        scores = [
            None if text is None else score(text, reference)
            for text, reference in zip(texts, table["reference"], strict=True)
        ]
        table[reading] = pd.array(texts, dtype="string")
        table[f"{reading}_score"] = pd.array(scores, dtype="Float64")
    for model in (*MODELS, FEW_SHOT, *smaller):
        replied = replies.answers.get(model)
        reasons = [answer.finish_reason for answer in replied] if replied else [None] * len(table)
        table[f"{model}_finish_reason"] = pd.array(reasons, dtype="string")
    return table


def refused_rows(holdout: pd.DataFrame, replies: Replies) -> pd.DataFrame:
    """Rows that the server refused for any model: document_id, rule, value and raw (question)."""
    rows = []
    for position, (document_id, messages) in enumerate(zip(holdout["document_id"], holdout["messages"], strict=True)):
        reasons = [f"{model}: {answers[position].finish_reason}" for model, answers in replies.answers.items()]
        reasons = [reason for reason in reasons if f": {REFUSED}" in reason]
        if replies.restricted and replies.restricted[position] is None:
            reasons.append(f"base, labels only: {REFUSED}")
        if reasons:
            rows.append((document_id, "refused by the server", reasons[0], turn_text(messages[-2])))
    return pd.DataFrame(rows, columns=list(tables.QUARANTINED["evaluate"]), dtype="string")


def probe_table(probes: tuple[str, ...], replies: Replies) -> list[dict[str, str | None]]:
    """Every probe with the answer of each model, None without a champion."""
    return [
        {
            "prompt": probe,
            **{model: replies.probes[model][position].text if model in replies.probes else None for model in MODELS},
        }
        for position, probe in enumerate(probes)
    ]


def kept_answers(probes: Sequence[Mapping[str, str | None]], labels: Collection[str]) -> dict[str, Any]:
    """How much of what the base answers to the probes the candidate still answers; see :class:`EvaluateDetails`."""
    if not probes:
        return {}
    folded = {label.strip().casefold() for label in labels}
    scores = [METRICS["token_f1"](probe["candidate"] or "", probe["base"] or "") for probe in probes]
    labelled = sum((probe["candidate"] or "").strip().casefold() in folded for probe in probes)
    return {"probes_kept": sum(scores) / len(scores), **({"probes_labelled": labelled} if labels else {})}
