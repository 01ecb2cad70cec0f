"""Turn a row of a source into a conversation and the fields that prompts read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tasks.collect.config import Form, Layout, SourceSection
from tasks.collect.forms.detect import form_of, refuse_preference
from tasks.collect.forms.turns import TurnKeys, read_tools, read_turns, turn_keys
from tasks.collect.forms.values import at_path, is_missing, list_of, optional_text, shown, text_of
from tasks.collect.identity import is_same
from tasks.collect.records import Rejected
from tasks.core.config import ChatTask
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
    form, as JSON text, or None.
    """

    messages: list[Message]
    tools: str | None
    fields: dict[str, str]


def fields_of(form: Form | None, columns: Mapping[str, str]) -> tuple[str, ...]:
    """The fields of a source's documents: those of its form (none if it is detected), then the mapped ones."""
    return tuple(dict.fromkeys([*(FIELDS[form] if form else ()), *columns]))


def convert(
    values: Mapping[str, Any], source: SourceSection, columns: Mapping[str, str], task: ChatTask
) -> Conversation:
    """Read a row in its source's form, or in the detected form if the source states none and maps no column.

    ``columns``: field: column, with dots into nested values; in addition to a form's own fields. Only the task's
    context may be empty. ``task``: its system turn is added to a conversation without one; the answer must be one of
    its labels.
    """
    try:
        form = source.form or ("columns" if columns else form_of(values))
        if form not in ("columns", "text"):
            refuse_preference(values)
        mapped = {
            name: (optional_text if name == task.context else text_of)(at_path(values, column), column)
            for name, column in columns.items()
        }
        read = READERS.get(form)
        found = read(values, source.layout) if read else _columns(values, source.layout, mapped, task)
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
    return replace(found, messages=messages, fields={**found.fields, **mapped})


@dataclass(frozen=True)
class _Part:
    name: str
    value: Any

    def text(self) -> str:
        return text_of(self.value, self.name)

    def optional(self) -> str:
        return optional_text(self.value, self.name)


def _part(values: Mapping[str, Any], named: str | None, *own: str) -> _Part:
    if named is not None:
        return _Part(named, at_path(values, named) if named else None)
    found = next((name for name in own if not is_missing(values.get(name))), own[0])
    return _Part(found, values.get(found))


def _tools(values: Mapping[str, Any], layout: Layout) -> str | None:
    part = _part(values, layout.tools, "tools", "functions")
    return read_tools(part.value, part.name)


def _behind_system(messages: list[Message], system: _Part) -> list[Message]:
    text = system.optional()
    if not text or not messages or messages[0]["role"] == "system":
        return messages
    return [{"role": "system", "content": text}, *messages]


def _exchange(question: str, answer: str) -> list[Message]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def _last(messages: Sequence[Message], role: str) -> str:
    return next((turn_text(message) for message in reversed(messages) if message["role"] == role), "")


def _alpaca(values: Mapping[str, Any], layout: Layout) -> Conversation:
    instruction = _part(values, layout.instruction, "instruction")
    context = _part(values, layout.input, "input")
    answer = _part(values, layout.output, "output").text()
    asked = [text for text in (instruction.optional(), context.optional()) if text]
    if not asked:
        raise Rejected(f"missing: {instruction.name!r} is empty")
    history = _history(_part(values, layout.history, "history"))
    messages = [*history, *_exchange("\n".join(asked), answer)]
    fields = {"instruction": instruction.optional(), "input": context.optional(), "output": answer}
    system = _part(values, layout.system, "system")
    return Conversation(_behind_system(messages, system), _tools(values, layout), fields)


def _history(part: _Part) -> list[Message]:
    if is_missing(part.value):
        return []
    messages: list[Message] = []
    for number, pair in enumerate(list_of(part.value, part.name, "history")):
        place = f"{part.name}[{number}]"
        if not isinstance(pair, list) or len(pair) != 2:
            raise Rejected(f"history: {place!r} is not a pair of question and answer")
        messages += _exchange(text_of(pair[0], f"{place}[0]"), text_of(pair[1], f"{place}[1]"))
    return messages


def _sharegpt(values: Mapping[str, Any], layout: Layout) -> Conversation:
    part = _part(values, layout.messages, "conversations", "conversation", "messages")
    return _in_turns(values, layout, part, turn_keys(layout, "from", "value"))


def _openai(values: Mapping[str, Any], layout: Layout) -> Conversation:
    part = _part(values, layout.messages, "messages", "conversations", "conversation")
    return _in_turns(values, layout, part, turn_keys(layout, "role", "content"))


def _in_turns(values: Mapping[str, Any], layout: Layout, part: _Part, keys: TurnKeys) -> Conversation:
    if is_missing(part.value):
        raise Rejected(f"missing: {part.name!r} is empty")
    turns = read_turns(part.value, part.name, keys)
    if not turns:
        raise Rejected(f"missing: {part.name!r} has no turn")
    fields = {"user": _last(turns, "user"), "assistant": _last(turns, "assistant")}
    messages = _behind_system(turns, _part(values, layout.system, "system"))
    return Conversation(messages, _tools(values, layout), fields)


def _prompt_completion(values: Mapping[str, Any], layout: Layout) -> Conversation:
    asked = _spoken(_part(values, layout.prompt, "prompt"), "user", layout)
    answered = _spoken(_part(values, layout.completion, "completion"), "assistant", layout)
    fields = {"user": _last(asked, "user"), "assistant": _last(answered, "assistant")}
    messages = _behind_system([*asked, *answered], _part(values, layout.system or ""))
    return Conversation(messages, _tools(values, layout), fields)


def _spoken(part: _Part, role: str, layout: Layout) -> list[Message]:
    if not isinstance(part.value, list):
        return [{"role": role, "content": part.text()}]
    if not part.value:
        raise Rejected(f"missing: {part.name!r} has no turn")
    return read_turns(part.value, part.name, turn_keys(layout, "role", "content"))


def _text(values: Mapping[str, Any], layout: Layout) -> Conversation:
    return Conversation([], None, {"text": _part(values, layout.text, "text").text()})


def _columns(values: Mapping[str, Any], layout: Layout, mapped: Mapping[str, str], task: ChatTask) -> Conversation:
    """A conversation with mapped question and answer; system and tools only if the layout names them.

    A table's own ``system`` column could mean anything.
    """
    if task.input not in mapped or task.output not in mapped:
        return Conversation([], None, {})
    tools = _part(values, layout.tools or "")
    messages = _exchange(question_of(task, mapped), mapped[task.output])
    system = _part(values, layout.system or "")
    return Conversation(_behind_system(messages, system), read_tools(tools.value, tools.name), {})


READERS: dict[Form, Callable[[Mapping[str, Any], Layout], Conversation]] = {
    "alpaca": _alpaca,
    "sharegpt": _sharegpt,
    "openai": _openai,
    "prompt_completion": _prompt_completion,
    "text": _text,
}
