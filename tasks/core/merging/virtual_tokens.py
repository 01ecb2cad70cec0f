"""Turns a prompt-tuned model into an ordinary one: its virtual tokens become real tokens of a larger vocabulary.

PEFT puts the learned vectors before the embeddings of the prompt (prompt tuning: Lester et al. 2021, arXiv 2104.08691).
Here they become rows of the embedding table, and the chat template begins with their names, so that any server computes
the same.

The model must not generate them: their rows in the head are the mean of its other rows, so that their logit is the mean
of all logits, never the largest (Jensen). A bias of the head, or generation settings, exclude them completely.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tasks.core.errors import ModelError

if TYPE_CHECKING:
    import torch

NEVER = -1e4
"""A logit without effect on a softmax, within the range of float16."""


def token_names(count: int) -> list[str]:
    return [f"<|virtual_{number}|>" for number in range(count)]


def extend_tokenizer(tokenizer: Any, count: int) -> list[int]:
    """Add the virtual tokens to a tokenizer and its chat template, else a ModelError; return their ids."""
    if not tokenizer.chat_template:
        raise ModelError("The tokenizer has no chat template to add the virtual tokens to", where="tokenizer")
    names, taken = token_names(count), set(tokenizer.get_vocab().values())
    tokenizer.add_tokens(names, special_tokens=True)
    ids = [int(index) for index in tokenizer.convert_tokens_to_ids(names)]
    if len(set(ids) - taken) != count:
        raise ModelError("The vocabulary already has tokens with the names of virtual tokens", where=names[0])
    start, template = "".join(names), tokenizer.chat_template
    tokenizer.chat_template = (
        {name: start + text for name, text in template.items()} if isinstance(template, dict) else start + template
    )
    return ids


def extend_model(model: Any, vectors: torch.Tensor, ids: list[int]) -> None:
    """Give a float32 model, in place, the vectors (tokens, width) as embeddings, and a head that avoids them."""
    import torch

    rows = model.get_input_embeddings().num_embeddings
    if max(ids) >= rows:
        model.resize_token_embeddings(max(ids) + 1, mean_resizing=False)
    _untie(model)
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    scale = getattr(embedding, "embed_scale", 1.0)  # Gemma 3 scales inside its table; PEFT's vectors bypass it
    is_real = torch.ones(head.weight.shape[0], dtype=torch.bool)
    is_real[ids] = False
    is_real[rows:] = False
    with torch.no_grad():
        embedding.weight[ids] = (vectors / scale).to(embedding.weight.dtype)
        head.weight[~is_real] = head.weight[is_real].mean(dim=0)
        if getattr(head, "bias", None) is not None:
            head.bias[~is_real] = NEVER
    model.generation_config.suppress_tokens = ids


def _untie(model: Any) -> None:
    import torch

    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if head.weight.data_ptr() == embedding.weight.data_ptr():
        head.weight = torch.nn.Parameter(embedding.weight.detach().clone(), requires_grad=False)
    for config in {id(config): config for config in (model.config, model.config.get_text_config())}.values():
        config.tie_word_embeddings = False
