"""The rows to train on: drawn from the training set, mixed, tokenised and cut to length."""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from datasets import Dataset, disable_progress_bars

from tasks.core import tables
from tasks.core.messages import Message, for_masking, for_template, plain
from tasks.core.processes import emit
from tasks.train.config import TrainConfig
from tasks.train.masking import TokenisedRow, row_tokeniser
from tasks.train.mixing import mix, strata_of, subset
from tasks.train.unusable_rows import NOTHING_TRAINED, TOO_LONG, nothing_left
from tasks.train.validation_split import documents_of, require_enough, validation_split

COLUMNS = ("example_id", "messages", "tools", "prompt", "document_id", "origin", "source")
SAMPLES = 3


@dataclass
class OverLength:
    """Rows over the maximum length; ``pieces`` are made of split rows, ``exchanges_dropped`` do not fit in one."""

    dropped: int = 0
    truncated: int = 0
    split: int = 0
    pieces: int = 0
    tokens_cut: int = 0
    exchanges_dropped: int = 0


@dataclass(frozen=True)
class PreparedRows:
    """The trainer's rows (a ``datasets.Dataset`` with ``input_ids`` and ``labels``) and a report on them.

    ``validation`` are those of the validation split, each once, or None; ``split`` counts ``trained_rows``,
    and its ``rows`` and ``documents``.
    ``counts`` are ``rows_in``, ``accepted`` and ``quarantined``; ``mix`` has rows, shares and tokens by group and
    source; ``longest`` counts tokens; ``samples`` are conversations with their text and token ids; ``ends`` the tokens
    that end turns, the most frequent first.
    """

    rows: Any
    counts: dict[str, int]
    over_length: OverLength
    mix: dict[str, Any]
    longest: int
    samples: list[dict[str, Any]]
    ends: list[int]
    validation: Any = None
    split: dict[str, int] = field(default_factory=dict)


@dataclass
class Tokenised:
    """A row of the training set as training rows, usually one; none if it has a ``problem``."""

    pieces: list[TokenisedRow] = field(default_factory=list)
    problem: str = ""
    detail: str = ""

    def compact(self) -> Tokenised:
        """The same in a tenth of the memory: a list takes some 40 bytes per token and label."""
        pieces = [
            TokenisedRow(array("i", piece.input_ids), array("i", piece.labels), end=piece.end) for piece in self.pieces
        ]
        return Tokenised(pieces, self.problem, self.detail)


def prepare_rows(
    training_set: Path, config: TrainConfig, tokenizer: Any, seed: int, fraction: float, out: Path
) -> PreparedRows:
    """Set a training set's validation split aside; draw a fraction of the rest, mix and tokenise it.

    Rows that cannot be trained on go to ``quarantine.parquet`` in the folder ``out``. Raises a TrainingError if no row
    is left, the validation split is too small, or the mix needs rows that do not exist.
    """
    disable_progress_bars()
    whole = pd.read_parquet(training_set, columns=list(COLUMNS))
    held = validation_split(whole, config, seed)
    split, frame = whole[held].reset_index(drop=True), whole[~held]
    strata = strata_of(frame, config.mix.replay)
    frame = frame.iloc[subset(frame["example_id"], fraction, seed, strata)].reset_index(drop=True)
    over = OverLength()
    tokenise = _Tokeniser(config, tokenizer, over)
    measured = tokenise.rows(split, range(len(split)))
    validation = [piece for row in measured.values() for piece in row.pieces]
    if config.validation_fraction:
        usable = sum(not row.problem for row in measured.values())
        require_enough(usable, split, len(whole), config.validation_fraction)
    mixed = mix(frame, config.mix, seed)
    done = tokenise.rows(frame, sorted(set(mixed.positions.tolist())))
    kept = [piece for position in mixed.positions.tolist() for piece in done[position].pieces]
    counts = _set_aside([(frame, done), (split, measured)], out / tables.QUARANTINE)
    if not kept:
        raise nothing_left([(row.problem, row.detail) for row in done.values()], config, str(training_set))
    tokens = {position: sum(len(piece.input_ids) for piece in row.pieces) for position, row in done.items()}
    samples = [
        _sample(frame, position, tokenizer) for position, row in list(done.items())[: 4 * SAMPLES] if not row.problem
    ][:SAMPLES]
    used = split.iloc[[position for position, row in measured.items() if not row.problem]]
    trained = counts["accepted"] - len(used)
    return PreparedRows(
        rows=_dataset(kept),
        counts=counts,
        over_length=over,
        mix=_with_tokens(mixed.shares, frame, mixed.positions, tokens),
        longest=max(len(piece.input_ids) for piece in [*kept, *validation]),
        samples=samples,
        ends=[end for end, _ in Counter(piece.end for piece in kept if piece.end is not None).most_common()],
        validation=_dataset(validation) if validation else None,
        split={"trained_rows": trained, "rows": len(used), "documents": documents_of(used).nunique()},
    )


def _dataset(pieces: Sequence[TokenisedRow]) -> Any:
    names = ("input_ids", "labels")
    return Dataset.from_dict({name: [np.asarray(getattr(piece, name)) for piece in pieces] for name in names})


class _Tokeniser:
    def __init__(self, config: TrainConfig, tokenizer: Any, over: OverLength) -> None:
        self._config, self._over = config, over
        self._tokenise = row_tokeniser(tokenizer, config.max_length, config.train_on)

    def rows(self, frame: pd.DataFrame, positions: Iterable[int]) -> dict[int, Tokenised]:
        return {
            position: self.row(for_masking(frame["messages"][position]), frame["tools"][position]).compact()
            for position in positions
        }

    def row(self, messages: Sequence[Message], tools: str | None) -> Tokenised:
        offered = json.loads(tools) if tools else None
        done = self._tokenise(messages, offered)
        if done.problem == TOO_LONG and self._config.over_length == "truncate":
            return self._truncated(done)
        if done.problem == TOO_LONG and self._config.over_length == "split":
            return self._split(messages, offered, done.detail)
        self._over.dropped += done.problem == TOO_LONG
        if not done.problem and not done.trained:
            return Tokenised(problem=NOTHING_TRAINED, detail="every turn to train on has weight 0")
        return Tokenised(problem=done.problem, detail=done.detail) if done.problem else Tokenised([done])

    def _truncated(self, row: TokenisedRow) -> Tokenised:
        length = self._config.max_length
        cut = TokenisedRow(row.input_ids[:length], row.labels[:length])
        if not cut.trained:
            self._over.dropped += 1
            return Tokenised(problem=NOTHING_TRAINED, detail=f"{row.detail} tokens, none trained within {length}")
        self._over.truncated += 1
        self._over.tokens_cut += len(row.input_ids) - length
        return Tokenised([cut])

    def _split(self, messages: Sequence[Message], tools: Any, size: str) -> Tokenised:
        head, exchanges = exchanges_of(messages)
        pieces: list[TokenisedRow] = []
        current: list[Message] = []
        fitting: TokenisedRow | None = None
        for exchange in exchanges:
            longer = self._tokenise([*head, *current, *exchange], tools)
            if not longer.problem:
                current, fitting = [*current, *exchange], longer
                continue
            pieces += [fitting] if fitting else []
            single = self._tokenise([*head, *exchange], tools)
            current, fitting = ([], None) if single.problem else (list(exchange), single)
            self._over.exchanges_dropped += bool(single.problem)
        pieces += [fitting] if fitting else []
        pieces = [piece for piece in pieces if piece.trained]
        if not pieces:
            self._over.dropped += 1
            return Tokenised(problem=TOO_LONG, detail=size)
        self._over.split += 1
        self._over.pieces += len(pieces)
        return Tokenised(pieces)


def exchanges_of(messages: Sequence[Message]) -> tuple[list[Message], list[list[Message]]]:
    """The system turns, and the exchanges, each of which begins with a turn of the user."""
    head = [turn for turn in messages if turn["role"] == "system"]
    exchanges: list[list[Message]] = []
    for turn in messages:
        if turn["role"] == "system":
            continue
        if turn["role"] == "user" or not exchanges:
            exchanges.append([])
        exchanges[-1].append(turn)
    return head, exchanges


def _set_aside(parts: Sequence[tuple[pd.DataFrame, dict[int, Tokenised]]], path: Path) -> dict[str, int]:
    """Write the rows with a problem to quarantine; the counts of all rows."""
    rows = [
        {
            "row_id": row["example_id"],
            "rule": problem.problem,
            "value": problem.detail,
            "raw": json.dumps(plain(row["messages"]), ensure_ascii=False),
            **{name: row[name] for name in ("origin", "prompt", "document_id", "source")},
        }
        for frame, done in parts
        for position, problem in done.items()
        if problem.problem
        for row in frame.iloc[[position]].to_dict("records")
    ]
    pd.DataFrame(rows, columns=list(tables.QUARANTINED["train"])).astype("string").to_parquet(path, index=False)
    total = sum(len(done) for _, done in parts)
    if rows:
        (problem, count), *_ = Counter(row["rule"] for row in rows).most_common(1)
        emit(note=f"{len(rows)} of {total} rows are quarantined, most often for {problem} ({count})")
    return {"rows_in": total, "accepted": total - len(rows), "quarantined": len(rows)}


def _with_tokens(shares: dict[str, Any], frame: pd.DataFrame, positions: Any, tokens: dict[int, int]) -> dict[str, Any]:
    report = {}
    for by, names in (("groups", shares["group_of"]), ("sources", frame["source"].fillna("").tolist())):
        counted = Counter[str]()
        for position in positions.tolist():
            counted[names[position]] += tokens[position]
        report[by] = {name: {**row, "tokens": counted[name]} for name, row in shares[by].items()}
    return report


def _sample(frame: pd.DataFrame, position: int, tokenizer: Any) -> dict[str, Any]:
    """A conversation in the chat template, which a server must render to the same text."""
    messages, tools = for_template(frame["messages"][position]), frame["tools"][position]
    offered = json.loads(tools) if tools else None

    def render(turns: Sequence[Message], generate: bool) -> str:
        options = {"tools": offered, "tokenize": False, "add_generation_prompt": generate}
        return str(tokenizer.apply_chat_template(list(turns), **options))

    prompt, whole = render(messages[:-1], generate=True), render(messages, generate=False)
    return {
        "messages": messages,
        "tools": offered,
        "prompt": prompt,
        "prompt_ids": tokenizer(prompt, add_special_tokens=False)["input_ids"],
        "text": whole,
        "ids": tokenizer(whole, add_special_tokens=False)["input_ids"],
    }
