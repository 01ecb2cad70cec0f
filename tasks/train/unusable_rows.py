"""The error if no row can be trained on: at the training, and before anything is generated for it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

from tasks.core.base_model import load_tokenizer
from tasks.core.config import ModelSource
from tasks.core.errors import TrainingError
from tasks.core.messages import Message, for_masking
from tasks.train.chat_templates import with_chat_template
from tasks.train.config import TrainConfig
from tasks.train.masking import CHANGED_TURN, row_tokeniser

TOO_LONG, NOTHING_TRAINED = "too_long", "nothing_trained"


def nothing_left(problems: Sequence[tuple[str, str]], config: TrainConfig, where: str) -> TrainingError:
    """The error for rows that all have a problem (its rule and detail): the commonest, and what removes it."""
    (problem, count), *_ = Counter(rule for rule, _ in problems).most_common(1) or [("no rows", 0)]
    shown = next((f": {detail}" for rule, detail in problems if rule == "template_refuses" == problem), "")
    what = f"None of the {len(problems)} training rows can be used, most often for {problem} ({count} rows{shown})"
    remedy = "set train.chat_template: chatml, or change the conversations to what the template supports"
    if problem in (TOO_LONG, NOTHING_TRAINED):
        remedy = f"raise train.max_length (now {config.max_length} tokens)"
    elif problem == CHANGED_TURN and config.train_on == "assistant":
        remedy = "set train.train_on: last_turn, or a chat template that does not change earlier turns"
    return TrainingError(what, where=where, remedy=remedy)


def check_conversations(
    model: ModelSource, config: TrainConfig, conversations: Sequence[tuple[Sequence[Message], str | None]], where: str
) -> None:
    """Raise a TrainingError if none of some conversations, each with its tools (JSON), can be trained on.

    A hub model, and one with its own code, is examined by the training. So is the length of rows.
    """
    if not model.is_local or model.trust_remote_code or not conversations:
        return
    tokenise = row_tokeniser(with_chat_template(load_tokenizer(model), config.chat_template), 10**9, config.train_on)
    rows = [tokenise(for_masking(turns), json.loads(tools) if tools else None) for turns, tools in conversations]
    if all(row.problem for row in rows):
        raise nothing_left([(row.problem, row.detail) for row in rows], config, where)
