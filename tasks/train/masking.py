"""Which tokens are learned, by default the assistant's, and the proof that the trainer sees exactly these.

A turn of the assistant is what the chat template adds when the conversation up to and including the turn is rendered,
compared with the conversation before it with the generation prompt, which is what a server renders.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, MutableSequence, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, Protocol

from tasks.core.errors import TrainingError
from tasks.core.messages import is_learned, without_weights
from tasks.core.reasoning import closing_mark, opened_thought
from tasks.train.chat_templates import CHOICES

TrainOn = Literal["assistant", "last_turn", "completion", "everything"]

IGNORED = -100
CHANGED_TURN = "template_changes_turns"
"""The template renders a turn differently when others follow it: a server would never see it so."""
CHECKED_ROWS = 256
CHECKED_AT_ONCE = 16
REPORT = "try packing: false or the other backend, and report this with the recipe and masking.json"


@dataclass(frozen=True)
class TokenisedRow:
    """A conversation as tokens, with labels of the same shape, IGNORED for tokens that are not learned.

    ``problem`` is the quarantine rule that it breaks, or empty; ``detail`` the template's error or the length; ``end``
    the token that ends its last turn, if it is there.
    """

    input_ids: MutableSequence[int]
    labels: MutableSequence[int]
    problem: str = ""
    detail: str = ""
    end: int | None = None

    @property
    def trained(self) -> int:
        return sum(label != IGNORED for label in self.labels)


class _TemplateRefusal(Exception):
    pass


class RowTokeniser(Protocol):
    def __call__(self, messages: Sequence[Mapping[str, Any]], tools: Any = None) -> TokenisedRow: ...


def row_tokeniser(tokenizer: Any, max_length: int, train_on: TrainOn = "assistant") -> RowTokeniser:
    """A function from messages and their tools (or None) to a :class:`TokenisedRow`.

    A row has a problem if it exceeds ``max_length`` tokens, or if the template refuses it or leaves out its tool calls.
    ``train_on`` learns ``assistant``: every turn of the assistant with its end of turn; ``last_turn``: only the last
    one; ``completion``: everything after the prompt of the last turn; ``everything``: every token. A turn of the
    assistant with weight 0 is never learned. If the prompt of the last turn opens a thought, the row ends the thought,
    which is empty if the turn has none. The function raises a TrainingError if the template cannot be masked.
    """
    special = set(tokenizer.all_special_ids)
    special |= {index for index, token in tokenizer.added_tokens_decoder.items() if token.special}

    def render(messages: Sequence[Mapping[str, Any]], tools: Any, generate: bool) -> str:
        options = {"tools": tools, "tokenize": False, "add_generation_prompt": generate}
        try:
            return str(tokenizer.apply_chat_template(without_weights(messages), **options))
        except Exception as error:  # of jinja2, or raised by the template
            raise _TemplateRefusal(str(error) or type(error).__name__) from error

    def renders_calls(messages: Sequence[Mapping[str, Any]], tools: Any, text: str) -> bool:
        for index, message in enumerate(messages):
            if message.get("tool_calls"):
                without = {key: value for key, value in message.items() if key != "tool_calls"}
                # A template that refuses the turn without its calls has read them.
                with suppress(_TemplateRefusal):
                    if render([*messages[:index], without, *messages[index + 1 :]], tools, generate=False) == text:
                        return False
        return True

    def encode(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    def tokenise(messages: Sequence[Mapping[str, Any]], tools: Any = None) -> TokenisedRow:
        try:
            return masked(messages, tools)
        except _TemplateRefusal as refusal:
            return TokenisedRow([], [], "template_refuses", str(refusal))

    def masked(messages: Sequence[Mapping[str, Any]], tools: Any) -> TokenisedRow:
        text = render(messages, tools, generate=False)
        turns = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
        thought = opened_by_prompt(messages, tools, text) if turns[-1:] == [len(messages) - 1] else None
        # The prompt as a server tokenises it, and what follows it: together they might merge otherwise.
        ids = encode(thought[0]) + encode(thought[1]) if thought else encode(text)
        labels = list(ids) if train_on == "everything" else [IGNORED] * len(ids)
        size = str(len(ids))
        if not renders_calls(messages, tools, text):
            return TokenisedRow(ids, labels, "template_without_tool_calls", size)
        if train_on == "everything":
            spans = [index for index in turns if not is_learned(messages[index])]
        else:
            spans = [
                index for index in (turns if train_on == "assistant" else turns[-1:]) if is_learned(messages[index])
            ]
        last = last_special(ids, 0, len(ids))
        for index in spans:
            if thought and index == len(messages) - 1:
                start, end = len(encode(thought[0])), len(ids)
            else:
                before = render(messages[:index], tools, generate=True)
                after = render(messages[: index + 1], tools, generate=False)
                if not after.startswith(before) or not text.startswith(after):
                    return TokenisedRow(ids, labels, CHANGED_TURN, size)
                start, end = len(encode(before)), len(encode(after))
                if ids[:start] != encode(before) or ids[:end] != encode(after):
                    return TokenisedRow(ids, labels, "token_boundary", size)
            stop = last_special(ids, start, end)
            # What the template prints after the last special token is layout, unless it is what the turn says.
            if stop is None or ((words := says(messages[index])) and words in tokenizer.decode(ids[stop:end])):
                raise no_end_of_turn(messages)
            if train_on == "everything":
                labels[start:stop] = [IGNORED] * (stop - start)
                continue
            span, last = slice(start, len(ids) if train_on == "completion" else stop), stop
            labels[span] = ids[span]
        return TokenisedRow(ids, labels, "too_long" if len(ids) > max_length else "", size, last and ids[last - 1])

    def opened_by_prompt(messages: Sequence[Mapping[str, Any]], tools: Any, text: str) -> tuple[str, str] | None:
        """The last turn's prompt and what follows, where the prompt opens a thought; None for other templates."""
        prompt = render(messages[:-1], tools, generate=True)
        mark = opened_thought(prompt)
        return (prompt, after_thought(str(tokenizer.chat_template), mark, prompt, text, messages[-1])) if mark else None

    def last_special(ids: Sequence[int], start: int, end: int) -> int | None:
        """The position after the last special token."""
        return next((at + 1 for at in range(end - 1, start - 1, -1) if ids[at] in special), None)

    def no_end_of_turn(messages: Sequence[Mapping[str, Any]]) -> TrainingError:
        return TrainingError(
            f"The chat template of {tokenizer.name_or_path or 'the model'} ends the assistant's turn with no"
            " special token",
            where=f"a conversation of {', '.join(message['role'] for message in messages)}",
            remedy=f"set train.chat_template: {CHOICES}; or change the conversations to what the template supports",
        )

    return tokenise


def says(turn: Mapping[str, Any]) -> str:
    """The last words of a turn, which a template renders as they are."""
    calls = turn.get("tool_calls") or []
    words = str(calls[-1]["function"]["name"]) if calls else str(turn["content"])
    return next(reversed(words.split()), words)


def after_thought(template: str, mark: str, prompt: str, text: str, turn: Mapping[str, Any]) -> str:
    """What the model must write after a prompt that opens a thought by ``mark``; ``text`` is the whole conversation.

    That is the turn's own thought, if it has one, or an empty one; the mark that closes it; and the answer.
    """
    if text.startswith(prompt):  # the template writes a thought into the last turn
        return text[len(prompt) :]
    shared = next((at for at, (one, other) in enumerate(zip(prompt, text, strict=False)) if one != other), len(text))
    closing = closing_mark(mark, template)
    thought = str(turn["content"]).rpartition(closing)[0].strip().removeprefix(mark).strip()
    return f"{thought}\n{closing}\n\n{text[shared:].lstrip()}"


def trained_token_share(rows: Iterable[Mapping[str, Sequence[int]]], train_on: TrainOn = "assistant") -> float:
    """The share of learned tokens; a TrainingError if none are, or all are although not all may be."""
    tokens = trained = 0
    for row in rows:
        tokens += len(row["labels"])
        trained += sum(label != IGNORED for label in row["labels"])
    if trained == 0 or (trained == tokens and train_on != "everything"):
        remedy = "check that the conversations have user turns and assistant turns, and the chat template"
        raise TrainingError(f"The loss mask is wrong: {trained} of {tokens} tokens would be trained", remedy=remedy)
    return trained / tokens


def mark_trained(ids: Sequence[int], labels: Sequence[int], tokenizer: Any) -> str:
    """The decoded row with every run of trained tokens in double square brackets."""
    runs: list[tuple[bool, list[int]]] = []
    for token, label in zip(ids, labels, strict=True):
        trained = label != IGNORED
        if not runs or runs[-1][0] != trained:
            runs.append((trained, []))
        runs[-1][1].append(token)
    texts = ((trained, tokenizer.decode(run, skip_special_tokens=False)) for trained, run in runs)
    return "".join(f"[[{text}]]" if trained else text for trained, text in texts)


def masking_proof(trainer: Any, expected: Any, tokenizer: Any, train_on: TrainOn = "assistant") -> dict[str, Any]:
    """Check what an ``SFTTrainer``'s dataset and collator feed to the model against the tokenised rows.

    Returns the ``trained_token_share`` of all rows, ``rows``, ``rows_checked``, and as ``example`` a decoded row of a
    batch with its trained part in ``[[...]]``. Raises a TrainingError if the collated labels differ, none or all tokens
    are trained, or packing lost tokens or the beginnings of rows.
    """
    share = trained_token_share(expected, train_on)
    prepared = trainer.train_dataset
    # Packing changes the order of rows: the trained tokens are then compared over all rows.
    checked = len(expected) if trainer.args.packing else min(len(expected), CHECKED_ROWS)
    # Nothing predicts a row's first token, and packing removes its label.
    skipped = 1 if trainer.args.packing else 0
    learned = (row["labels"][skipped:] for row in islice(expected, checked))
    wanted = Counter(label for labels in learned for label in labels if label != IGNORED)
    found: Counter[int] = Counter()
    example = ""
    tokens = beginnings = 0
    count = len(prepared) if trainer.args.packing else checked
    for first in range(0, count, CHECKED_AT_ONCE):
        rows = [prepared[index] for index in range(first, min(first + CHECKED_AT_ONCE, count))]
        batch = trainer.data_collator(rows)
        for ids, labels in zip(batch["input_ids"].tolist(), batch["labels"].tolist(), strict=True):
            if any(label not in (IGNORED, token) for token, label in zip(ids, labels, strict=True)):
                raise TrainingError("The trainer's labels are not the rows' own tokens", remedy=REPORT)
            found.update(label for label in labels if label != IGNORED)
        if trainer.args.packing:
            tokens += sum(len(row["input_ids"]) for row in rows)
            beginnings += int((batch["position_ids"] == 0).sum())
        example = example or _first_row(batch, tokenizer)
    if found != wanted:
        what = f"The trainer would learn {found.total()} tokens instead of the assistant's {wanted.total()}"
        raise TrainingError(what, remedy=REPORT)
    if trainer.args.packing:
        # Attention stays within a row because its positions restart, so each row needs its own beginning.
        total = sum(len(row["input_ids"]) for row in expected)
        if (tokens, beginnings) != (total, len(expected)):
            what = f"Packing made {beginnings} rows of {tokens} tokens from {len(expected)} rows of {total} tokens"
            raise TrainingError(what, remedy="set packing: false, and report this with the recipe")
    return {"trained_token_share": round(share, 6), "rows": len(expected), "rows_checked": checked, "example": example}


def _first_row(batch: Mapping[str, Any], tokenizer: Any) -> str:
    ids, labels = batch["input_ids"][0].tolist(), batch["labels"][0].tolist()
    end = len(ids)
    if "attention_mask" in batch:
        end = int(batch["attention_mask"][0].sum())
    elif "position_ids" in batch:
        positions = batch["position_ids"][0].tolist()
        end = positions.index(0, 1) if 0 in positions[1:] else end
    return mark_trained(ids[:end], labels[:end], tokenizer)
