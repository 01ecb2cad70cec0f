"""Turn a row of a source into a conversation and the fields that prompts read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tasks.collect.config import Form, SourceSection
from tasks.collect.forms.detect import form_of
from tasks.collect.forms.meaning import refuse_columns, refuse_media, refuse_preference, refuse_weight
from tasks.collect.forms.row import Part, Row, first_key
from tasks.collect.forms.turns import TurnKeys, learned_part, read_tools, read_turns, turn_keys
from tasks.collect.forms.values import at_path, is_missing, list_of, optional_text, shown, text_of, unpacked
from tasks.collect.identity import is_same
from tasks.collect.records import Rejected
from tasks.core.config import ChatTask
from tasks.core.content import says_nothing
from tasks.core.messages import Message, question_of, turn_text
from tasks.core.suggestions import did_you_mean

FIELDS: dict[Form, tuple[str, ...]] = {
    "alpaca": ("instruction", "input", "output"),
    "sharegpt": ("user", "assistant"),
    "openai": ("user", "assistant"),
    "prompt_completion": ("user", "assistant"),
    "text": ("text",),
    "columns": (),
}


@dataclass(frozen=True)
class Conversation:
    """A converted row.

    ``messages``: in canonical form; empty if the row only feeds prompts. ``tools``: the callable tools in OpenAI's
    form, as JSON text, or None. ``ignored``: what the row holds and the conversation does not, by name. ``uncut``: all
    turns of a conversation without the turns after the last one to learn.
    """

    messages: list[Message]
    tools: str | None
    fields: dict[str, str]
    ignored: frozenset[str] = frozenset()
    uncut: Sequence[Message] = ()


def fields_of(form: Form | None, columns: Mapping[str, str]) -> tuple[str, ...]:
    """The fields of a source's documents: those of its form (none if it is detected), then the mapped ones."""
    return tuple(dict.fromkeys([*(FIELDS[form] if form else ()), *columns]))


def convert(
    values: Mapping[str, Any],
    source: SourceSection,
    columns: Mapping[str, str],
    task: ChatTask,
    named: Collection[str] = (),
) -> Conversation:
    """Read a row in its source's form, or in the detected form if the source states none and maps no column.

    ``columns``: field: column, with dots into nested values; in addition to a form's own fields. Only the task's
    context may be empty. ``task``: its system turn is added to a conversation without one; the answer must be one of
    its labels. ``named``: further columns that the recipe names, such as the id.
    """
    stated = [*named, *columns.values(), *source.layout.columns()]
    row = Row(values, source.layout, {*stated, *map(first_key, stated)})
    try:
        form = source.form or ("columns" if columns else _detected(row))
        is_asked = form == "columns" and {task.input, task.output} <= columns.keys()
        _refuse(form, row, columns, is_asked)
        mapped = {name: _mapped(row, name, column, task, is_asked) for name, column in columns.items()}
        found = READERS[form](row) if form in READERS else _columns(row, mapped, task, is_asked)
        ignored = row.ignored | {key for key in values.keys() - row.read if not says_nothing(values[key])}
    except RecursionError as error:
        raise Rejected("nesting: the row is nested too deeply") from error
    messages = found.messages
    if messages and task.system and messages[0]["role"] != "system":
        messages = [{"role": "system", "content": task.system}, *messages]
    if messages and task.labels and messages[-1]["content"] not in task.labels:
        answer = messages[-1]["content"]
        label = next((one for one in task.labels if is_same(one, answer)), None)
        if label is None:
            raise Rejected(f"unknown_label: {shown(answer)} {did_you_mean(answer, task.labels)}".rstrip())
        messages = [*messages[:-1], {**messages[-1], "content": label}]
        mapped |= {task.output: label} if task.output in mapped else {}
    return replace(found, messages=messages, fields={**found.fields, **mapped}, ignored=frozenset(ignored))


def _detected(row: Row) -> Form:
    try:
        return form_of(row.values)
    except Rejected:
        refuse_preference(row.values, row.read)
        raise


def _refuse(form: Form, row: Row, columns: Mapping[str, str], is_asked: bool) -> None:
    """Refuse a row whose keys say that it is not a text conversation to be learned."""
    if form == "columns":
        refuse_columns({column: at_path(row.values, column) for column in columns.values()})
    if form not in ("columns", "text") or is_asked:
        refuse_preference(row.values, row.read, is_table=is_asked)
    if form not in ("columns", "text"):
        refuse_media(row.values, "", row.read)
        refuse_weight(row.values, row.read)


def _mapped(row: Row, name: str, column: str, task: ChatTask, is_asked: bool) -> str:
    """The text of a mapped column: for prompts also a list or an object, as JSON; in a conversation only text."""
    part = Part(column, at_path(row.values, column), row.ignored)
    if is_asked and name in (task.input, task.context, task.output):
        return part.optional() if name == task.context else part.text()
    return (optional_text if name == task.context else text_of)(part.value, column)


def _tools(row: Row) -> str | None:
    part = row.part(row.layout.tools, "tools", "functions")
    return read_tools(part.value, part.name)


def _behind_system(messages: list[Message], system: Part) -> list[Message]:
    text = system.optional()
    if not text or not messages or messages[0]["role"] == "system":
        return messages
    return [{"role": "system", "content": text}, *messages]


def _exchange(question: str, answer: str) -> list[Message]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def _last(messages: Sequence[Message], role: str) -> str:
    return next((turn_text(message) for message in reversed(messages) if message["role"] == role), "")


def _alpaca(row: Row) -> Conversation:
    instruction = row.part(row.layout.instruction, "instruction")
    context = row.part(row.layout.input, "input")
    answer = row.part(row.layout.output, "output").text()
    asked = [text for text in (instruction.optional(), context.optional()) if text]
    if not asked:
        raise Rejected(f"missing: {instruction.name!r} is empty")
    history = _history(row.part(row.layout.history, "history"))
    messages = [*history, *_exchange("\n".join(asked), answer)]
    fields = {"instruction": instruction.optional(), "input": context.optional(), "output": answer}
    system = row.part(row.layout.system, "system")
    return Conversation(_behind_system(messages, system), _tools(row), fields)


def _history(part: Part) -> list[Message]:
    if says_nothing(unpacked(part.value, part.name, "history")):
        return []
    messages: list[Message] = []
    for number, pair in enumerate(list_of(part.value, part.name, "history")):
        place = f"{part.name}[{number}]"
        if not isinstance(pair, list) or len(pair) != 2:
            raise Rejected(f"history: {place!r} is not a pair of question and answer")
        messages += _exchange(*(Part(f"{place}[{at}]", pair[at], part.ignored).text() for at in (0, 1)))
    return messages


def _sharegpt(row: Row) -> Conversation:
    part = row.part(row.layout.messages, "conversations", "conversation", "messages")
    return _in_turns(row, part, turn_keys(row, "from", "value"))


def _openai(row: Row) -> Conversation:
    part = row.part(row.layout.messages, "messages", "conversations", "conversation")
    return _in_turns(row, part, turn_keys(row, "role", "content"))


def _in_turns(row: Row, part: Part, keys: TurnKeys) -> Conversation:
    if is_missing(part.value):
        raise Rejected(f"missing: {part.name!r} is empty")
    told = read_turns(part.value, part.name, keys)
    if not told:
        raise Rejected(f"missing: {part.name!r} has no turn")
    return _learned(row, told, row.part(row.layout.system, "system"))


def _learned(row: Row, told: list[Message], system: Part) -> Conversation:
    turns = learned_part(told, row.ignored)
    fields = {"user": _last(turns, "user"), "assistant": _last(turns, "assistant")}
    uncut = told if len(turns) < len(told) else ()
    return Conversation(_behind_system(turns, system), _tools(row), fields, uncut=uncut)


def _prompt_completion(row: Row) -> Conversation:
    keys = turn_keys(row, "role", "content")
    asked = _turns_of(row.part(row.layout.prompt, "prompt"), "user", keys)
    answered = _turns_of(row.part(row.layout.completion, "completion"), "assistant", keys)
    return _learned(row, [*asked, *answered], row.part(row.layout.system or ""))


def _turns_of(part: Part, role: str, keys: TurnKeys) -> list[Message]:
    """The turns of a list, or the one turn of a text or of its parts."""
    value = part.value
    if not isinstance(value, list) or (
        value and all(isinstance(item, Mapping) and keys.role not in item for item in value)
    ):
        return [{"role": role, "content": part.text()}]
    if not value:
        raise Rejected(f"missing: {part.name!r} has no turn")
    return read_turns(value, part.name, keys)


def _text(row: Row) -> Conversation:
    return Conversation([], None, {"text": row.part(row.layout.text, "text").text()})


def _columns(row: Row, mapped: Mapping[str, str], task: ChatTask, is_asked: bool) -> Conversation:
    """A conversation with mapped question and answer; system and tools only if the layout names them.

    A table's own ``system`` column could mean anything.
    """
    if not is_asked:
        return Conversation([], None, {})
    tools = row.part(row.layout.tools or "")
    messages = _exchange(question_of(task, mapped), mapped[task.output])
    system = row.part(row.layout.system or "")
    return Conversation(_behind_system(messages, system), read_tools(tools.value, tools.name), {})


READERS: dict[Form, Callable[[Row], Conversation]] = {
    "alpaca": _alpaca,
    "sharegpt": _sharegpt,
    "openai": _openai,
    "prompt_completion": _prompt_completion,
    "text": _text,
}
