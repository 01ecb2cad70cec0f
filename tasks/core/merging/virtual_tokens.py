"""A prompt-tuned model as an ordinary one: its virtual tokens become real ones of a larger vocabulary.

PEFT puts the learned vectors before the embeddings of the prompt (prompt tuning: Lester et al. 2021, arXiv 2104.08691).
Here they are rows of the embedding table, under names that the chat template writes before everything else: the same
function, and nothing that serves the model has to know of it.

The head must not write them. Its rows for them are the mean of all its other rows: their logit is then the mean of all
logits, so it is never the largest, and a softmax gives each of them less than one in the number of tokens (Jensen).
Where the head has a bias, or generation settings are read, they are ruled out altogether.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tasks.core.errors import ModelError

if TYPE_CHECKING:
    import torch

NEVER = -1e4
"""A logit that no softmax notices, and that float16 can hold."""


def token_names(count: int) -> list[str]:
    """What the virtual tokens are called in the vocabulary."""
    return [f"<|virtual_{number}|>" for number in range(count)]


def extend_tokenizer(tokenizer: Any, count: int) -> list[int]:
    """Add the virtual tokens to a tokenizer, and to the beginning of its chat template; returns their ids.

    Raises:
        ModelError: it has no chat template, or tokens of these names.
    """
    if not tokenizer.chat_template:
        raise ModelError("The tokenizer has no chat template to begin with the virtual tokens", where="tokenizer")
    names, taken = token_names(count), set(tokenizer.get_vocab().values())
    tokenizer.add_tokens(names, special_tokens=True)
    ids = [int(one) for one in tokenizer.convert_tokens_to_ids(names)]
    if len(set(ids) - taken) != count:
        raise ModelError("The vocabulary has tokens with the names of virtual tokens already", where=names[0])
    start, template = "".join(names), tokenizer.chat_template
    tokenizer.chat_template = (
        {name: start + text for name, text in template.items()} if isinstance(template, dict) else start + template
    )
    return ids


def extend_model(model: Any, vectors: torch.Tensor, ids: list[int]) -> None:
    """Give a model the learned vectors as embeddings of the ids, and a head of its own that does not write them.

    Args:
        model: a causal language model in float32; changed in place.
        vectors: (virtual tokens, width), as PEFT learned them.
        ids: of the virtual tokens, from the tokenizer.
    """
    import torch

    rows = model.get_input_embeddings().num_embeddings
    if max(ids) >= rows:
        model.resize_token_embeddings(max(ids) + 1, mean_resizing=False)
    _untie(model)
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    scale = getattr(embedding, "embed_scale", 1.0)  # Gemma 3 scales inside of its table, which PEFT's vectors pass by
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
    """Part the head from the embeddings."""
    import torch

    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if head.weight.data_ptr() == embedding.weight.data_ptr():
        head.weight = torch.nn.Parameter(embedding.weight.detach().clone(), requires_grad=False)
    for config in {id(one): one for one in (model.config, model.config.get_text_config())}.values():
        config.tie_word_embeddings = False
