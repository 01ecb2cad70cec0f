"""Columns of conversations: the texts of a role, the conversation as JSON, and why it cannot be trained on.

Does for columns what :mod:`tasks.core.messages` does for one conversation. Plain turns are processed as arrays; only
turns with tool calls become Python objects.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.core.characters import is_blank
from tasks.core.files import canonical_json
from tasks.core.messages import Message, plain, why_invalid
from tasks.validate.json_texts import TEXT, joined, json_strings, replaced

BATCH_ROWS = 50_000
CALLS = pa.large_list(pa.struct([("id", TEXT), ("name", TEXT), ("arguments", TEXT)]))
CONVERSATION = pa.large_list(
    pa.struct([("role", TEXT), ("content", TEXT), ("tool_calls", CALLS), ("tool_call_id", TEXT), ("weight", pa.int8())])
)
"""``MESSAGES`` with 64-bit offsets, so that more than 2 GiB of text can be reordered."""
KEYS = ("role", "content", "tool_calls", "tool_call_id", "weight")
BAD_ARGUMENTS = "a tool call whose arguments are no JSON"
VISIBLE = r"[!-~]"


@dataclass(frozen=True)
class Turns:
    """The turns of some conversations, one conversation after the other.

    Attributes:
        starts: the index of each conversation's first turn, and the number of turns.
        role, content: of each turn; null becomes empty.
        calls: tool calls as Arrow lists; null or empty if there are none.
        call_id: the call that a turn answers, or null.
        weight: 0 for a turn that is not learned, else null.
    """

    starts: NDArray[np.int64]
    role: pa.Array
    content: pa.Array
    calls: pa.Array
    call_id: pa.Array
    weight: pa.Array
    with_calls: NDArray[np.bool_]

    @classmethod
    def of(cls, messages: pa.Array) -> Turns:
        """The turns of a column of :data:`CONVERSATION`; null turns are left out."""
        flat, owner = pc.list_flatten(messages), pc.list_parent_indices(messages)
        if flat.null_count:
            is_there = flat.is_valid()
            flat, owner = flat.filter(is_there), owner.filter(is_there)
        lengths = np.bincount(owner.to_numpy(zero_copy_only=False), minlength=len(messages))
        calls = pc.struct_field(flat, "tool_calls")
        return cls(
            np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            pc.fill_null(pc.struct_field(flat, "role"), ""),
            pc.fill_null(pc.struct_field(flat, "content"), ""),
            calls,
            pc.struct_field(flat, "tool_call_id"),
            pc.struct_field(flat, "weight"),
            pc.fill_null(pc.greater(pc.list_value_length(calls), 0), False).to_numpy(zero_copy_only=False),
        )

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def owner(self) -> NDArray[np.int64]:
        """The index of each turn's conversation."""
        return np.repeat(np.arange(len(self)), np.diff(self.starts))

    def is_role(self, role: str) -> NDArray[np.bool_]:
        """Which turns have this role."""
        found: NDArray[np.bool_] = pc.equal(self.role, role).to_numpy(zero_copy_only=False)
        return found

    def texts(self) -> pa.Array:
        """The text of each turn: its content, then its tool calls as JSON, one per line."""
        numbers = np.flatnonzero(self.with_calls)
        texts = ["\n".join([*([content] if content else []), *map(_call_text, calls)])
                 for content, calls in self._called(numbers)]  # fmt: skip
        return replaced(self.content, numbers, texts)

    def as_json(self) -> pa.Array:
        """Each turn as canonical JSON."""
        without_calls = joined('{"content":', json_strings(self.content), ',"role":', json_strings(self.role), "}")
        is_more = self.with_calls | pc.or_(self.call_id.is_valid(), self.weight.is_valid()).to_numpy(
            zero_copy_only=False
        )
        numbers = np.flatnonzero(is_more)
        written = [canonical_json(turn) for turn in self._plain(pa.array(numbers))]
        return replaced(without_calls, numbers, written)

    def messages(self, number: int) -> list[Message]:
        """One conversation as Python objects."""
        return self._plain(pa.array(range(self.starts[number], self.starts[number + 1]), pa.int64()))

    def _plain(self, numbers: pa.Array) -> list[Message]:
        columns = (self.role, self.content, self.calls, self.call_id, self.weight)
        turns = zip(*(column.take(numbers).to_pylist() for column in columns), strict=True)
        return plain([dict(zip(KEYS, turn, strict=True)) for turn in turns])

    def _called(self, numbers: NDArray[np.int64]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        chosen = pa.array(numbers)
        return zip(self.content.take(chosen).to_pylist(), self.calls.take(chosen).to_pylist(), strict=True)


def as_conversations(column: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray | pa.Array:
    """A column as :data:`CONVERSATION`; null for a column that does not hold conversations."""
    turn = getattr(column.type, "value_type", None)
    if turn is None or not pa.types.is_struct(turn) or "content" not in turn.names:
        return pa.nulls(len(column), CONVERSATION)
    try:
        return column.cast(CONVERSATION)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
        return pa.nulls(len(column), CONVERSATION)


def role_texts(messages: pa.Array, role: str) -> pa.Array:
    """All texts of a role in each conversation, with the assistant's tool calls; null for an empty conversation."""
    turns = Turns.of(messages)
    is_role = turns.is_role(role)
    counts = np.bincount(turns.owner[is_role], minlength=len(turns))
    texts = (turns.texts() if role == "assistant" else turns.content).filter(pa.array(is_role))
    starts = np.cumsum(counts) - counts
    single = pa.array(starts, mask=counts != 1) if len(texts) else pa.nulls(len(turns), pa.int64())
    several = np.flatnonzero(counts > 1)
    joined = ["\n".join(texts.slice(starts[number], counts[number]).to_pylist()) for number in several]
    absent = np.flatnonzero((counts == 0) & (np.diff(turns.starts) > 0))
    return replaced(replaced(texts.take(single), several, joined), absent, [""] * len(absent))


def as_json(messages: pa.Array) -> pa.Array:
    """Each conversation as canonical JSON; null for an empty one."""
    turns = Turns.of(messages)
    texts, starts = turns.as_json().to_pylist(), turns.starts.tolist()
    joined = [
        f"[{','.join(texts[start:stop])}]" if stop > start else None for start, stop in itertools.pairwise(starts)
    ]
    return pa.array(joined, TEXT)


def unfit_reasons(messages: pa.Array) -> pa.Array:
    """Why each conversation cannot be trained on, as :func:`why_invalid` says it; null if it can."""
    turns = Turns.of(messages)
    size, lengths = len(turns), np.diff(turns.starts)
    first, last = turns.starts[:-1][lengths > 0], turns.starts[1:][lengths > 0] - 1
    ends_well, has_user = np.zeros(size, bool), np.zeros(size, bool)
    ends_well[lengths > 0] = turns.is_role("assistant")[last]
    has_user[turns.owner[turns.is_role("user")]] = True
    is_late_system = turns.is_role("system")
    is_late_system[first] = False
    reasons = np.full(size, None, dtype=object)
    reasons[turns.owner[_is_empty(turns)]] = "an empty turn"
    reasons[turns.owner[is_late_system]] = "a system turn that is not the first"
    reasons[~has_user] = "there is no user turn"
    reasons[~ends_well] = "the last turn is not the assistant's"
    for number in np.unique(turns.owner[turns.with_calls | turns.is_role("tool")]):
        reasons[number] = _why_invalid(turns.messages(int(number)))
    return pa.array(reasons, TEXT)


def by_batches(
    work: Callable[[pa.Array], pa.Array], column: pa.ChunkedArray | pa.Array, kind: pa.DataType = TEXT
) -> pa.ChunkedArray:
    """Apply a function to a column batch by batch."""
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    pieces = [chunk.slice(start, BATCH_ROWS) for chunk in chunks for start in range(0, len(chunk), BATCH_ROWS)]
    return pa.chunked_array([work(piece) for piece in pieces], kind)


def _why_invalid(messages: Sequence[Message]) -> str | None:
    try:
        return why_invalid(messages)
    except (ValueError, TypeError):  # turn_text reads a call's arguments as JSON
        return BAD_ARGUMENTS


def _is_empty(turns: Turns) -> NDArray[np.bool_]:
    """Which turns, except tools' results, have neither a call nor a character that is seen."""
    is_visible = pc.match_substring_regex(turns.content, VISIBLE).to_numpy(zero_copy_only=False)
    doubtful = np.flatnonzero(~is_visible & ~turns.with_calls & ~turns.is_role("tool"))
    empty = np.zeros(len(turns.role), bool)
    empty[doubtful] = [is_blank(text) for text in turns.content.take(pa.array(doubtful)).to_pylist()]
    return empty


def _call_text(call: dict[str, Any]) -> str:
    """As :func:`tasks.core.messages.turn_text`; arguments that are not JSON stay unchanged."""
    try:
        arguments = json.loads(call["arguments"])
    except (ValueError, TypeError):
        arguments = call["arguments"]
    return canonical_json({"name": call["name"], "arguments": arguments})
