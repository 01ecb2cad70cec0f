"""The chat templates that a recipe can name (``templates/``), and how a tokenizer gets one.

Llama 3 uses the tool role and call format that Llama 3.1 documents. If a tokenizer begins every text with a
begin-of-sequence token, so does the template: base models expect it, and servers do not add it to rendered templates.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tasks.core.base_model import load_tokenizer
from tasks.core.config import ModelSource
from tasks.core.errors import ModelError
from tasks.core.model_files import check_tokens

END_OF_TURN = "<|im_end|>"
FOLDER = Path(__file__).with_name("templates")
TEMPLATES = {
    name: (FOLDER / f"{name}.jinja").read_text(encoding="utf-8").removesuffix("\n")
    for name in ("chatml", "llama3", "alpaca")
}
CHATML = TEMPLATES["chatml"]
CHOICES = "chatml, llama3 (where the vocabulary has its tokens) or alpaca"
_MARKS = {
    "chatml": ("<|im_start|>", END_OF_TURN),
    "llama3": ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    "alpaca": ("### Instruction:", "### Response:"),
}


def template_marks(name: str) -> tuple[str, ...]:
    """The marks of turns in a named template, which data must not contain; none for ``model``."""
    return _MARKS.get(name, ())


def with_chat_template(tokenizer: Any, name: str) -> Any:
    """The tokenizer, changed or replaced, with a chat template whose end of turn ends a sequence; or a ModelError."""
    if name == "model":
        if not tokenizer.chat_template:
            remedy = f"set train.chat_template: {CHOICES}; or name an instruction-tuned model"
            raise ModelError("The model's tokenizer has no chat template", where=tokenizer.name_or_path, remedy=remedy)
        return tokenizer
    if name == "chatml":
        tokenizer = _with_end_of_turn(tokenizer)
    elif name == "llama3":
        _require_tokens(tokenizer, _MARKS[name])
        tokenizer.eos_token = "<|eot_id|>"
    elif tokenizer.eos_token is None:
        what = "Alpaca needs a tokenizer with an end-of-sequence token"
        raise ModelError(what, where=tokenizer.name_or_path, remedy="use chat_template: model, or another model")
    tokenizer.chat_template = ("{{ bos_token }}" if _begins_texts(tokenizer) else "") + TEMPLATES[name]
    return tokenizer


def check_chat_template(model: ModelSource, name: str) -> None:
    """Raise a ModelError if a local model, whose code is not its own, does not support a template.

    Its tokenizer cannot write the template, or it has no embedding for a token of it.
    """
    if name != "model" and model.is_local and not model.trust_remote_code:
        tokenizer = with_chat_template(load_tokenizer(model), name)
        check_tokens(Path(model.path), [*template_marks(name), tokenizer.eos_token])


def ending_at(tokenizer: Any, ends: Sequence[int]) -> Any:
    """The tokenizer, changed so that its end of sequence is the end of turn that the mask trains, ``ends[0]``.

    It stays if it ends other turns, or if the template writes it, which would change the template's texts.
    """
    writes_it = "eos_token" in str(tokenizer.chat_template)
    if ends and tokenizer.eos_token_id not in ends and not writes_it:
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(ends[0])
    return tokenizer


def published_tokenizer(model: ModelSource, name: str, ends: Sequence[int]) -> Any:
    """What is saved with a training's result: the base's tokenizer, but for chat template and end of turn.

    The training's own pads, and Unsloth gives it the length of the training.
    """
    return ending_at(with_chat_template(load_tokenizer(model), name), ends)


def _with_end_of_turn(tokenizer: Any) -> Any:
    """The tokenizer with <|im_end|> as its end-of-sequence token.

    If the vocabulary lacks it, the end-of-sequence token is renamed, as in Unsloth's ``get_chat_template``: the id
    stays, so no embedding is added, and generation stops where the model was trained to stop.
    """
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    if END_OF_TURN not in tokenizer.get_vocab():
        if tokenizer.eos_token is None or not tokenizer.is_fast:
            what = "ChatML needs a fast tokenizer with an end-of-sequence token"
            remedy = "use chat_template: model or alpaca, or another model"
            raise ModelError(what, where=tokenizer.name_or_path, remedy=remedy)
        state = tokenizer.backend_tokenizer.to_str().replace(f'"{tokenizer.eos_token}"', f'"{END_OF_TURN}"')
        named = {name: token for name, token in tokenizer.special_tokens_map.items() if isinstance(token, str)}
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=Tokenizer.from_str(state),
            **{name: END_OF_TURN if token == tokenizer.eos_token else token for name, token in named.items()},
            model_max_length=tokenizer.model_max_length,
            padding_side=tokenizer.padding_side,
        )
    tokenizer.eos_token = END_OF_TURN
    return tokenizer


def _require_tokens(tokenizer: Any, marks: tuple[str, ...]) -> None:
    vocabulary = tokenizer.get_vocab()
    lacking = [mark for mark in marks if tokenizer.encode(mark, add_special_tokens=False) != [vocabulary.get(mark)]]
    if lacking:
        what = f"The tokenizer lacks {', '.join(lacking)} of the llama3 chat template"
        remedy = "use chat_template: chatml or alpaca, which need no special tokens"
        raise ModelError(what, where=tokenizer.name_or_path, remedy=remedy)


def _begins_texts(tokenizer: Any) -> bool:
    ids: list[int] = tokenizer("a")["input_ids"]
    return tokenizer.bos_token_id is not None and ids[0] == tokenizer.bos_token_id
