"""A random Qwen2 of 0.1 million parameters with a BPE tokenizer and ChatML: real parts, small enough for unit tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks.train.chat_templates import CHATML

SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def tiny_tokenizer(
    template: str | None = CHATML, specials: list[str] = SPECIALS, eos: str = "<|im_end|>", pad: str = "<|endoftext|>"
) -> Any:
    """A byte-level BPE tokenizer of about 290 tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=specials, initial_alphabet=alphabet)
    bpe.train_from_iterator(["where is my card", "my account is locked", "billing accounts cards\n\n"] * 3, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token=eos, pad_token=pad, model_max_length=512)
    tokenizer.chat_template = template
    return tokenizer


def write_tiny_model(folder: Path, tokenizer: Any = None) -> Path:
    """Write model and tokenizer in Hugging Face layout; the same weights every time."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    tokenizer = tokenizer or tiny_tokenizer()
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
