"""The chat templates that a recipe can name, and how a tokenizer is given one.

Each is plain Jinja2 over ``messages``, ``tools`` and ``add_generation_prompt``, as transformers and vLLM render it. A
tokenizer that begins every text with a begin-of-sequence token gets it at the start of a conversation too: base models
have learned from nothing else, and no server adds it to a rendered template.
"""

from __future__ import annotations

from typing import Any

from tasks.core.base_model import load_tokenizer
from tasks.core.config import ModelSource
from tasks.core.errors import ModelError

END_OF_TURN = "<|im_end|>"
_TOOLS = (
    "{% macro offered(tools) %}You may call these functions:\n<tools>\n"
    "{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}</tools>\n"
    'A call is written as <tool_call>{"name": ..., "arguments": {...}}</tool_call>.{% endmacro %}'
)
_CALLS = (
    "{% for call in message.tool_calls or [] %}{% if message['content'] or not loop.first %}{{ '\n' }}{% endif %}"
    '<tool_call>{"name": {{ call.function.name | tojson }}, "arguments": {{ call.function.arguments | tojson }}}'
    "</tool_call>{% endfor %}"
)
CHATML = (
    _TOOLS + "{% if tools and (not messages or messages[0]['role'] != 'system') %}"
    "<|im_start|>system\n{{ offered(tools) }}<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "{% if tools and loop.first and message['role'] == 'system' %}{{ '\n\n' }}{{ offered(tools) }}{% endif %}"
    + _CALLS
    + "<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Conversations without tools read the same as in plain ChatML."""

_LLAMA3_TOOLS = (
    "{% macro offered(tools) %}You may call these functions:\n"
    "{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}"
    'A call is written as {"name": ..., "parameters": {...}}, several with semicolons between them.{% endmacro %}'
)
_LLAMA3_CALLS = (
    "{% for call in message.tool_calls or [] %}"
    "{% if not loop.first %}; {% elif message['content'] %}{{ '\n' }}{% endif %}"
    '{"name": {{ call.function.name | tojson }}, "parameters": {{ call.function.arguments | tojson }}}{% endfor %}'
)
LLAMA3 = (
    _LLAMA3_TOOLS + "{% macro header(role) %}<|start_header_id|>{{ role }}<|end_header_id|>{{ '\n\n' }}{% endmacro %}"
    "{% if tools and (not messages or messages[0]['role'] != 'system') %}"
    "{{ header('system') }}{{ offered(tools) }}<|eot_id|>{% endif %}"
    "{% for message in messages %}{{ header('ipython' if message['role'] == 'tool' else message['role']) }}"
    "{{ message['content'] }}"
    "{% if tools and loop.first and message['role'] == 'system' %}{{ '\n\n' }}{{ offered(tools) }}{% endif %}"
    + _LLAMA3_CALLS
    + "<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}{{ header('assistant') }}{% endif %}"
)
"""Llama 3's headers, with the role of a tool's result and the form of a call as Llama 3.1 documents them."""

_ALPACA_REFUSES = (
    "{% if tools or message.tool_calls or message['role'] not in ('system', 'user', 'assistant') %}"
    "{{ raise_exception('alpaca has no form for tools: use chat_template chatml or llama3') }}{% endif %}"
)
ALPACA = (
    "{% for message in messages %}" + _ALPACA_REFUSES + "{% if not loop.first %}{{ '\n\n' }}{% endif %}"
    "{% if message['role'] == 'user' %}### Instruction:\n{% elif message['role'] == 'assistant' %}### Response:\n"
    "{% endif %}{{ message['content'] }}{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '\n\n' if messages }}### Response:\n{% endif %}"
)
"""Headings in plain text, for any tokenizer: only the end of an answer is a special token."""

TEMPLATES = {"chatml": CHATML, "llama3": LLAMA3, "alpaca": ALPACA}
CHOICES = "chatml, llama3 (where the vocabulary has its tokens) or alpaca"
_MARKS = {
    "chatml": ("<|im_start|>", END_OF_TURN),
    "llama3": ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    "alpaca": ("### Instruction:", "### Response:"),
}


def template_marks(name: str) -> tuple[str, ...]:
    """What tells the turns of a named template apart, and so must not be written in data; of ``model``, nothing."""
    return _MARKS.get(name, ())


def require_chat_template(tokenizer: Any, where: str) -> None:
    """Raise a ModelError for a tokenizer that cannot render conversations."""
    if not tokenizer.chat_template:
        raise ModelError(
            "The model's tokenizer has no chat template",
            where=where,
            remedy=f"set train.chat_template: {CHOICES}; or name an instruction-tuned model",
        )


def with_chat_template(tokenizer: Any, name: str) -> Any:
    """The tokenizer with a chat template, and with that template's end of turn as its end-of-sequence token.

    Args:
        tokenizer: of the base model; it may be changed, or replaced by another.
        name: ``model`` (the tokenizer's own), ``chatml``, ``llama3`` or ``alpaca``.

    Raises:
        ModelError: the tokenizer has no template of its own, or cannot write the named one.
    """
    if name == "model":
        require_chat_template(tokenizer, tokenizer.name_or_path)
        return tokenizer
    if name == "chatml":
        tokenizer = _with_end_of_turn(tokenizer)
    elif name == "llama3":
        _require_tokens(tokenizer, _MARKS[name])
        tokenizer.eos_token = "<|eot_id|>"
    elif tokenizer.eos_token is None:
        raise ModelError(
            "Alpaca needs a tokenizer with an end-of-sequence token",
            where=tokenizer.name_or_path,
            remedy="use chat_template: model, or another model",
        )
    tokenizer.chat_template = ("{{ bos_token }}" if _begins_texts(tokenizer) else "") + TEMPLATES[name]
    return tokenizer


def check_chat_template(model: ModelSource, name: str) -> None:
    """Find out before anything starts whether a local model's tokenizer can write a named chat template.

    Where the recipe allows code of the model's own, which would run, it is left to the training.

    Raises:
        ModelError: as :func:`with_chat_template`, or the tokenizer cannot be loaded.
    """
    if name != "model" and model.is_local and not model.trust_remote_code:
        with_chat_template(load_tokenizer(model), name)


def _with_end_of_turn(tokenizer: Any) -> Any:
    """The tokenizer with <|im_end|> as its end-of-sequence token.

    A vocabulary without it has its end-of-sequence token renamed, as Unsloth's ``get_chat_template`` does: the id
    stays, so no embedding is added and generation stops where the model already knows to stop.
    """
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    if END_OF_TURN not in tokenizer.get_vocab():
        if tokenizer.eos_token is None or not tokenizer.is_fast:
            raise ModelError(
                "ChatML needs a fast tokenizer with an end-of-sequence token",
                where=tokenizer.name_or_path,
                remedy="use chat_template: model or alpaca, or another model",
            )
        state = tokenizer.backend_tokenizer.to_str().replace(f'"{tokenizer.eos_token}"', f'"{END_OF_TURN}"')
        pad = END_OF_TURN if tokenizer.pad_token == tokenizer.eos_token else tokenizer.pad_token
        bos = END_OF_TURN if tokenizer.bos_token == tokenizer.eos_token else tokenizer.bos_token
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=Tokenizer.from_str(state),
            bos_token=bos,
            pad_token=pad,
            model_max_length=tokenizer.model_max_length,
            padding_side="right",
        )
    tokenizer.eos_token = END_OF_TURN
    return tokenizer


def _require_tokens(tokenizer: Any, marks: tuple[str, ...]) -> None:
    vocabulary = tokenizer.get_vocab()
    lacking = [mark for mark in marks if tokenizer.encode(mark, add_special_tokens=False) != [vocabulary.get(mark)]]
    if lacking:
        raise ModelError(
            f"The tokenizer does not know {', '.join(lacking)} of the llama3 chat template",
            where=tokenizer.name_or_path,
            remedy="use chat_template: chatml or alpaca, which need no tokens of their own",
        )


def _begins_texts(tokenizer: Any) -> bool:
    """Whether the tokenizer writes its begin-of-sequence token before every text."""
    ids: list[int] = tokenizer("a")["input_ids"]
    return tokenizer.bos_token_id is not None and ids[0] == tokenizer.bos_token_id
