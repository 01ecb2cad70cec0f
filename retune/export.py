"""A recipe's training set as a data set for LLaMA-Factory: JSON lines and a ``dataset_info.json``.

The forms are those of LLaMA-Factory's data/README.md: alpaca has no tool calls; ShareGPT's turns alternate between
human or observation and gpt or function_call; OpenAI's messages are ShareGPT with other names.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from flows.report.record import latest_artifacts
from tasks.core import tables
from tasks.core.errors import RecipeError, SourceError
from tasks.core.files import write_json
from tasks.core.home import Home
from tasks.core.messages import Message, is_learned, plain

ExportForm = Literal["alpaca", "sharegpt", "openai"]
DATASET_INFO = "dataset_info.json"
BATCH_ROWS = 5_000
SHAREGPT_ROLES = {"system": "system", "user": "human", "assistant": "gpt", "tool": "observation"}
OPENAI_TAGS = {
    "role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant",
    "observation_tag": "tool", "function_tag": "function_call", "system_tag": "system",
}  # fmt: skip
Row = dict[str, Any]


@dataclass(frozen=True)
class Export:
    """An exported training set.

    ``skipped_there``: how many LLaMA-Factory leaves out, because their turns do not alternate. ``calls_as_text``:
    whether LLaMA-Factory takes the arguments of tool calls for a text, as OpenAI's API has them. ``unlearned``: turns
    of weight 0, a key that LLaMA-Factory does not read.
    """

    folder: Path
    dataset: str
    rows: int
    skipped_there: int
    calls_as_text: bool
    unlearned: int
    run_id: str

    def as_text(self) -> str:
        lines = [f"{self.rows} conversations of run {self.run_id} in {self.folder}, as the data set {self.dataset!r}"]
        if self.skipped_there:
            lines.append(f"LLaMA-Factory leaves out {self.skipped_there} conversations: their turns do not alternate")
        if self.calls_as_text:
            lines.append(
                "LLaMA-Factory trains on the calls' arguments as quoted text: --form sharegpt keeps them objects"
            )
        if self.unlearned:
            lines.append(f"LLaMA-Factory trains on all turns, also on the {self.unlearned} of weight 0")
        return "\n".join(lines)


def export_training_set(
    home: Home, recipe: str, form: ExportForm, folder: Path, reference: str | None = None
) -> Export:
    """Write the last training set that a recipe's nights accepted, atomically.

    ``folder``: must not exist, or be empty. ``reference``: how a command names the recipe, if not by its name. Raises
    RecipeError: the recipe has no training set yet, or the folder is not empty; SourceError: a conversation cannot be
    written in the form.
    """
    folder = folder.resolve()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RecipeError("The folder exists already", where=str(folder), remedy="name a new one: --to FOLDER")
    run_id, table = _training_set(home, recipe, reference or recipe)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        rows, skipped, unlearned = _write(table, temporary / f"{recipe}.jsonl", form)
        entry = _entry(table, f"{recipe}.jsonl", form)
        write_json(temporary / DATASET_INFO, {recipe: entry})
        folder.mkdir(exist_ok=True)  # an empty folder stays: it may be the working directory of a shell
        for name in (f"{recipe}.jsonl", DATASET_INFO):
            (temporary / name).replace(folder / name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return Export(folder, recipe, rows, skipped, entry.get("formatting") == "openai", unlearned, run_id)


def _training_set(home: Home, recipe: str, reference: str) -> tuple[str, Path]:
    for record, folder in latest_artifacts(home, recipe, "validate", tables.TRAINING_SET):
        return record.run_id, folder / tables.TRAINING_SET
    remedy = f"run a night: {home.command('run', recipe=reference)}"
    raise RecipeError(f"The recipe {recipe!r} has no training set yet", where=str(home.runs), remedy=remedy)


def _conversations(table: Path) -> Iterator[tuple[str, list[Message], str | None]]:
    import pyarrow.parquet as pq

    file = pq.ParquetFile(table)
    columns = [name for name in ("example_id", "messages", "tools") if name in file.schema_arrow.names]
    for batch in file.iter_batches(BATCH_ROWS, columns=columns):
        for row in batch.to_pylist():
            yield row["example_id"], plain(row["messages"]), row.get("tools") or None


def _write(table: Path, file: Path, form: ExportForm) -> tuple[int, int, int]:
    rows = skipped = unlearned = 0
    with file.open("w", encoding="utf-8") as stream:
        for example_id, messages, tools in _conversations(table):
            row = WRITERS[form](messages, example_id)
            stream.write(json.dumps({**row, "tools": tools or ""}, ensure_ascii=False) + "\n")
            rows += 1
            skipped += not _alternates(messages, form)
            unlearned += sum(not is_learned(turn) for turn in messages)
        stream.flush()
        os.fsync(stream.fileno())
    return rows, skipped, unlearned


def _alpaca(messages: Sequence[Message], example_id: str) -> Row:
    has_system = bool(messages) and messages[0]["role"] == "system"
    turns = messages[1:] if has_system else messages
    pairs = [
        [question["content"], answer["content"]] for question, answer in zip(turns[::2], turns[1::2], strict=False)
    ]
    roles = [turn["role"] for turn in turns]
    is_more = any("tool_calls" in turn or not is_learned(turn) for turn in turns)
    if not pairs or roles != ["user", "assistant"] * len(pairs) or is_more:
        raise SourceError(
            "A conversation with tools or weights, or whose turns do not alternate, cannot be written as alpaca",
            where=example_id,
            remedy="--form sharegpt or --form openai",
        )
    *history, (question, answer) = pairs
    system = messages[0]["content"] if has_system else ""
    return {"instruction": question, "input": "", "output": answer, "system": system, "history": history}


def _sharegpt(messages: Sequence[Message], example_id: str) -> Row:
    return {"conversations": [turn for message in messages for turn in _sharegpt_turns(message)]}


def _sharegpt_turns(message: Message) -> Iterator[Row]:
    calls = message.get("tool_calls", ())
    weight = {} if is_learned(message) else {"weight": 0}
    if message["content"] or not calls:
        yield {"from": SHAREGPT_ROLES[message["role"]], "value": message["content"], **weight}
    if calls:
        written = [{"name": call["name"], "arguments": json.loads(call["arguments"])} for call in calls]
        yield {
            "from": "function_call",
            "value": json.dumps(written[0] if len(written) == 1 else written, ensure_ascii=False),
            **weight,
        }


def _openai(messages: Sequence[Message], example_id: str) -> Row:
    return {"messages": [_openai_turn(message) for message in messages]}


def _openai_turn(message: Message) -> Row:
    """A message with its calls as OpenAI's API has them, with their ids if they have any."""
    if "tool_calls" not in message:
        return message
    calls = [
        {
            **({"id": call["id"]} if call["id"] else {}),
            "type": "function",
            "function": {"name": call["name"], "arguments": call["arguments"]},
        }
        for call in message["tool_calls"]
    ]
    return {**message, "tool_calls": calls}


def _alternates(messages: Sequence[Message], form: ExportForm) -> bool:
    """Whether questions and answers alternate after the system turn, as LLaMA-Factory requires.

    There, a tool's result is a question and a call is an answer; adjacent results of OpenAI's messages are joined.
    """
    turns = [turn for message in messages for turn in _sharegpt_turns(message)] if form == "sharegpt" else messages
    spoken = [turn.get("from") or SHAREGPT_ROLES[turn["role"]] for turn in turns]
    if form == "openai":
        spoken = [
            role for role, before in zip(spoken, ["", *spoken], strict=False) if not role == before == "observation"
        ]
    asks = [role in ("human", "observation") for role in spoken if role != "system"]
    return asks == [True, False] * (len(asks) // 2)


def _entry(table: Path, file_name: str, form: ExportForm) -> Mapping[str, Any]:
    if form == "alpaca":
        names = {"prompt": "instruction", "query": "input", "response": "output", "system": "system"}
        return {"file_name": file_name, "columns": {**names, "history": "history", "tools": "tools"}}
    if form == "sharegpt":
        columns = {"messages": "conversations", "tools": "tools"}
        return {"file_name": file_name, "formatting": "sharegpt", "columns": columns}
    has_calls = any("tool_calls" in turn for _, messages, _ in _conversations(table) for turn in messages)
    # Only its "openai" converter reads tool calls, but it adds a system prompt to conversations without them.
    formatting = "openai" if has_calls else "sharegpt"
    columns = {"messages": "messages", "tools": "tools"}
    return {"file_name": file_name, "formatting": formatting, "columns": columns, "tags": OPENAI_TAGS}


WRITERS: dict[ExportForm, Callable[[Sequence[Message], str], Row]] = {
    "alpaca": _alpaca,
    "sharegpt": _sharegpt,
    "openai": _openai,
}
