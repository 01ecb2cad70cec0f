"""Which tokens are learned, the assistant's by default, and the proof that the trainer sees just these.

The chat template itself says where a turn begins and ends: a turn of the assistant is what the template adds when the
conversation up to and including it is rendered, after the conversation before it with the generation prompt, which is
exactly what a server renders before it lets the model speak.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, MutableSequence, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, Protocol

from tasks.core.errors import TrainingError
from tasks.train.chat_templates import CHOICES

TrainOn = Literal["assistant", "last_turn", "completion", "everything"]

IGNORED = -100
CHANGED_TURN = "template_changes_turns"
"""The template renders a turn differently once others follow it, so that no server would have been asked like this."""
CHECKED_ROWS = 256
CHECKED_AT_ONCE = 16
REPORT = "try packing: false or the other backend, and report this with the recipe and masking.json"


@dataclass(frozen=True)
class TokenisedRow:
    """A conversation as tokens.

    Attributes:
        input_ids: the whole conversation, (tokens,).
        labels: the same, with IGNORED where nothing is learned, (tokens,).
        problem: why the row cannot be trained on (a quarantine rule), or empty.
        detail: what the rule was broken by: the template's own words, or how many tokens there are.
    """

    input_ids: MutableSequence[int]
    labels: MutableSequence[int]
    problem: str = ""
    detail: str = ""

    @property
    def trained(self) -> int:
        """How many tokens are learned."""
        return sum(label != IGNORED for label in self.labels)


class _Refused(Exception):
    """The template does not render a conversation."""


class RowTokeniser(Protocol):
    """Tokenises conversations, as chat templates take them, with the tools that they may call."""

    def __call__(self, messages: Sequence[Mapping[str, Any]], tools: Any = None) -> TokenisedRow: ...


def row_tokeniser(tokenizer: Any, max_length: int, train_on: TrainOn = "assistant") -> RowTokeniser:
    """A function from ``messages`` and the tools they may call (or None) to a :class:`TokenisedRow`.

    Rows of at most ``max_length`` tokens fit. A conversation that the template refuses, or whose tool calls it leaves
    out, has a problem; a template that cannot be masked at all is a TrainingError.

    Args:
        tokenizer: with a chat template.
        max_length: tokens.
        train_on: ``assistant``: every turn of the assistant with its end of turn; ``last_turn``: only the last of them;
            ``completion``: everything behind the prompt of the last turn; ``everything``: every token.
    """
    special = set(tokenizer.all_special_ids)
    special |= {index for index, token in tokenizer.added_tokens_decoder.items() if token.special}

    def render(messages: Sequence[Mapping[str, Any]], tools: Any, generate: bool) -> str:
        try:
            text: str = tokenizer.apply_chat_template(
                list(messages), tools=tools, tokenize=False, add_generation_prompt=generate
            )
        except Exception as error:  # jinja2 and whatever a template raises itself
            raise _Refused(str(error) or type(error).__name__) from error
        return text

    def shows_calls(messages: Sequence[Mapping[str, Any]], tools: Any, text: str) -> bool:
        """Whether every turn's tool calls leave a mark on the text."""
        for index, message in enumerate(messages):
            if message.get("tool_calls"):
                silent = {key: value for key, value in message.items() if key != "tool_calls"}
                # A template that refuses the turn without its calls has looked at them.
                with suppress(_Refused):
                    if render([*messages[:index], silent, *messages[index + 1 :]], tools, generate=False) == text:
                        return False
        return True

    def encode(text: str) -> list[int]:
        ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def tokenise(messages: Sequence[Mapping[str, Any]], tools: Any = None) -> TokenisedRow:
        try:
            return masked(messages, tools)
        except _Refused as refusal:
            return TokenisedRow([], [], "template_refuses", str(refusal))

    def masked(messages: Sequence[Mapping[str, Any]], tools: Any) -> TokenisedRow:
        text = render(messages, tools, generate=False)
        ids = encode(text)
        labels = [IGNORED] * len(ids)
        size = str(len(ids))
        if not shows_calls(messages, tools, text):
            return TokenisedRow(ids, labels, "template_without_tool_calls", size)
        turns = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
        if train_on == "everything":
            labels, turns = list(ids), []
        elif train_on != "assistant":
            turns = turns[-1:]
        for index in turns:
            before = render(messages[:index], tools, generate=True)
            after = render(messages[: index + 1], tools, generate=False)
            if not after.startswith(before) or not text.startswith(after):
                return TokenisedRow(ids, labels, CHANGED_TURN, size)
            start, end = encode(before), encode(after)
            if ids[: len(start)] != start or ids[: len(end)] != end:
                return TokenisedRow(ids, labels, "token_boundary", size)
            stop = _after_last(special, ids, len(start), len(end))
            if stop is None:
                raise _template_error(tokenizer, "ends the assistant's turn with no special token", messages)
            stop = len(ids) if train_on == "completion" else stop
            labels[len(start) : stop] = ids[len(start) : stop]
        return TokenisedRow(ids, labels, "too_long" if len(ids) > max_length else "", size)

    return tokenise


def _after_last(wanted: set[int], ids: Sequence[int], start: int, end: int) -> int | None:
    """The position after the last wanted id in ``ids[start:end]``: what a template prints after it is layout."""
    return next((position + 1 for position in range(end - 1, start - 1, -1) if ids[position] in wanted), None)


def _template_error(tokenizer: Any, what: str, messages: Sequence[Mapping[str, Any]]) -> TrainingError:
    roles = ", ".join(message["role"] for message in messages)
    return TrainingError(
        f"The chat template of {tokenizer.name_or_path or 'the model'} {what}",
        where=f"a conversation of {roles}",
        remedy=f"set train.chat_template: {CHOICES}; or change the conversations to what the template supports",
    )


def trained_token_share(rows: Iterable[Mapping[str, Sequence[int]]], train_on: TrainOn = "assistant") -> float:
    """The share of tokens that are learned; none, or all unasked, is an error of the mask: a TrainingError."""
    tokens = trained = 0
    for row in rows:
        tokens += len(row["labels"])
        trained += sum(label != IGNORED for label in row["labels"])
    if trained == 0 or (trained == tokens) != (train_on == "everything"):
        raise TrainingError(
            f"The loss mask is wrong: {trained} of {tokens} tokens would be trained",
            remedy="check that the conversations have user turns and assistant turns, and the chat template",
        )
    return trained / tokens


def mark_trained(ids: Sequence[int], labels: Sequence[int], tokenizer: Any) -> str:
    """The decoded row with every trained run of tokens in double square brackets."""
    runs: list[tuple[bool, list[int]]] = []
    for token, label in zip(ids, labels, strict=True):
        trained = label != IGNORED
        if not runs or runs[-1][0] != trained:
            runs.append((trained, []))
        runs[-1][1].append(token)
    texts = ((trained, tokenizer.decode(run, skip_special_tokens=False)) for trained, run in runs)
    return "".join(f"[[{text}]]" if trained else text for trained, text in texts)


def masking_proof(trainer: Any, expected: Any, tokenizer: Any, train_on: TrainOn = "assistant") -> dict[str, Any]:
    """What the trainer's own dataset and collator feed to the model, checked against the tokenised rows.

    Args:
        trainer: a TRL ``SFTTrainer`` that is ready to train.
        expected: the rows that were handed to it, with ``input_ids`` and ``labels``.
        tokenizer: decodes the example.
        train_on: what was asked to be trained.

    Returns:
        ``trained_token_share`` over the whole set, ``rows``, ``rows_checked``, and ``example``: one decoded row of a
        collated batch with its trained part in ``[[...]]``.

    Raises:
        TrainingError: the collated labels are not the expected ones, none or all tokens are trained, or packing lost
            tokens or the places where rows begin.
    """
    share = trained_token_share(expected, train_on)
    prepared = trainer.train_dataset
    # Packing joins rows in another order: then the trained tokens are compared over the whole set.
    checked = len(expected) if trainer.args.packing else min(len(expected), CHECKED_ROWS)
    # A row's first token has nothing before it to be foretold from, and packing takes its label away.
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
        raise TrainingError(
            f"The trainer would learn {found.total()} tokens where {wanted.total()} are the assistant's", remedy=REPORT
        )
    if trainer.args.packing:
        _check_packing(expected, tokens, beginnings)
    return {"trained_token_share": round(share, 6), "rows": len(expected), "rows_checked": checked, "example": example}


def _check_packing(expected: Any, tokens: int, beginnings: int) -> None:
    """Attention is kept within a row by where its positions begin anew, so each row must have its own beginning."""
    wanted = sum(len(row["input_ids"]) for row in expected)
    if (tokens, beginnings) != (wanted, len(expected)):
        raise TrainingError(
            f"Packing made {beginnings} rows of {tokens} tokens of {len(expected)} rows of {wanted} tokens",
            remedy="set packing: false, and report this with the recipe",
        )


def _first_row(batch: Mapping[str, Any], tokenizer: Any) -> str:
    """The first conversation of a collated batch, decoded and marked, without padding or what is packed behind it."""
    ids, labels = batch["input_ids"][0].tolist(), batch["labels"][0].tolist()
    end = len(ids)
    if "attention_mask" in batch:
        end = int(batch["attention_mask"][0].sum())
    elif "position_ids" in batch:
        positions = batch["position_ids"][0].tolist()
        end = positions.index(0, 1) if 0 in positions[1:] else end
    return mark_trained(ids[:end], labels[:end], tokenizer)
