"""Find in an answer what a reasoning model thought before it, and cut it out.

Covers the marks of model families that think in text (DeepSeek-R1, Qwen3, Kimi, Magistral, Command A, EXAONE, Seed-OSS,
OpenThinker, Gemma, gpt-oss) and what other models make of them. Does not cover thoughts without marks, such as those
after Granite's "Here is my thought process:", which only the server's own parser finds.
"""

from __future__ import annotations

import re

_NAME = r"(?:[a-z]+:|ant|inner_?)?(?:think|thinking|thoughts?|reasoning|reflection|scratch_?pad|monologue)"
_SHORT = r"(?:think|thinking|thoughts?|reasoning)"
_OPENING = rf"""
    < \s* {_NAME} (?: \s+ [\w-]+ = [^<>]* )? \s* > | \[ {_SHORT} \] (?!\() | \u25c1 {_SHORT} \u25b7
    | <[|\uff5c] (?: begin_of_ | start_ )? {_SHORT} [|\uff5c]> | <\|inner_prefix\|> | <\|channel>thought\b
    | (?: <\|start\|>assistant )? <\|channel\|> (?: analysis | commentary ) [^<]* <\|message\|>
"""
_CLOSING = rf"""
    < \s* / \s* {_NAME} \s* > | \[ / {_SHORT} \] | \u25c1 / {_SHORT} \u25b7
    | <[|\uff5c] (?: end_of_ | end_ | / ) {_SHORT} [|\uff5c]> | <\|inner_suffix\|> | <channel\|>
    | (?: <\|end\|> )? (?: <\|start\|>assistant )? <\|channel\|>final [^<]* <\|message\|> | assistantfinal
"""
MARK = re.compile(rf"(?P<opening>{_OPENING})|{_CLOSING}", re.VERBOSE | re.IGNORECASE)
WRAPPED = re.compile(
    r"<(answer|response|output|solution)>(?P<text>.*)</\1>"
    r"|<\|(?:begin_of|start)_(solution|response)\|>(?P<special>.*)<\|end_(?:of_)?\3\|>",
    re.IGNORECASE | re.DOTALL,
)
"""An answer between marks of its own, as some models write it after their reasoning."""


def reasoning_mark(text: str) -> str | None:
    """The first mark of reasoning in a text, such as ``<think>``, or None."""
    found = MARK.search(text)
    return found[0] if found else None


def without_reasoning(text: str) -> str | None:
    """A text without its reasoning; None if the reasoning never ends, so that there is no answer.

    A closing mark alone ends reasoning that began before the text, as where the chat template opens it. A text without
    reasoning is returned as it is.
    """
    kept: list[str] = []
    start, is_open = 0, False
    for mark in MARK.finditer(text):
        if not is_open and mark["opening"]:
            kept.append(text[start : mark.start()])
        elif not is_open:
            kept.clear()
        start, is_open = mark.end(), mark["opening"] is not None
    if is_open:
        return None
    if start == 0:
        return text
    answer = _joined([*kept, text[start:]])
    wrapped = WRAPPED.fullmatch(answer)
    return (wrapped["text"] or wrapped["special"] or "").strip() if wrapped else answer


def opened_thought(prompt: str) -> str | None:
    """The mark with which a prompt ends if its chat template opens the model's reasoning, such as ``<think>``."""
    last = next(reversed([*MARK.finditer(prompt)]), None)
    return last[0] if last and last["opening"] and not prompt[last.end() :].strip() else None


def closing_mark(opening: str, template: str = "") -> str:
    """The mark that closes reasoning: the one that a chat template spells, or else the opening one with a slash."""
    usual = f"{opening[:1]}/{opening[1:]}"
    spelt = (mark[0] for mark in MARK.finditer(template) if not mark["opening"])
    return usual if usual in template else next(spelt, usual)


def _joined(pieces: list[str]) -> str:
    """Pieces with the wider white space of both sides between two of them."""
    text = ""
    for piece in pieces:
        before, after = text.rstrip(), piece.lstrip()
        gap = max(text[len(before) :], piece[: len(piece) - len(after)], key=len)
        text = before + gap + after
    return text.strip()
