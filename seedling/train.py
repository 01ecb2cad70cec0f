"""Train the seedling from scratch: python seedling/train.py --clinc path/to/clinc150/train.csv

Writes config.json, model.safetensors (bfloat16), the tokenizer and DIGEST into --out (default: seedling/model).
About 25 minutes on two CPU cores. The seed fixes data, order and initial weights; another processor or library
version rounds differently, so only the committed files carry the committed digest.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import math
import time
from pathlib import Path

import torch
from skills import Conversation, conversations, read_messages
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from tasks.train.chat_templates import CHATML

SEED = 3407
VOCABULARY = 3072
BATCH_ROWS = 64
PEAK_LEARNING_RATE = 3e-3
WARM_UP_STEPS = 50


def train_tokenizer(by_topic: dict[str, list[str]]) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with the ChatML template, fitted on the training conversations."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    sample = itertools.islice(conversations(by_topic, SEED), 40_000)
    texts = (turn["content"] for conversation in sample for turn in conversation)
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    bpe.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY, special_tokens=specials, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
        ),
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|endoftext|>", model_max_length=512
    )
    tokenizer.chat_template = CHATML
    return tokenizer


def new_model(tokenizer: PreTrainedTokenizerFast) -> Qwen2ForCausalLM:
    """A randomly initialised Qwen2 decoder of 3.5 million parameters."""
    torch.manual_seed(SEED)
    return Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(tokenizer),
            hidden_size=192,
            intermediate_size=640,
            num_hidden_layers=6,
            num_attention_heads=6,
            num_key_value_heads=3,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def batch_of(rows: list[Conversation], tokenizer: PreTrainedTokenizerFast) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and labels, both (rows, longest row); every real token is a label, padding is -100."""
    texts = [tokenizer.apply_chat_template(row, tokenize=False) for row in rows]
    encoded = tokenizer(texts, padding=True, return_tensors="pt")
    ids = encoded["input_ids"]
    return ids, ids.masked_fill(encoded["attention_mask"] == 0, -100)


def learning_rate(step: int, steps: int) -> float:
    """Linear warm-up, then a cosine to a tenth of the peak."""
    if step < WARM_UP_STEPS:
        return PEAK_LEARNING_RATE * (step + 1) / WARM_UP_STEPS
    share = (step - WARM_UP_STEPS) / max(1, steps - WARM_UP_STEPS)
    return PEAK_LEARNING_RATE * (0.1 + 0.45 * (1 + math.cos(math.pi * share)))


def train(by_topic: dict[str, list[str]], steps: int) -> tuple[Qwen2ForCausalLM, PreTrainedTokenizerFast]:
    """Next-token training of a fresh model for ``steps`` steps of BATCH_ROWS conversations."""
    tokenizer = train_tokenizer(by_topic)
    model = new_model(tokenizer)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(tokenizer):,} tokens", flush=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.1)
    stream = conversations(by_topic, SEED + 1)
    started = time.monotonic()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps)
        ids, labels = batch_of(list(itertools.islice(stream, BATCH_ROWS)), tokenizer)
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 25 == 0 or step == steps - 1:
            print(f"step {step} loss {loss.item():.3f} {time.monotonic() - started:.0f} s", flush=True)
    return model, tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clinc", type=Path, required=True, help="CLINC150's train split as CSV: text,intent,domain")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "model")
    parser.add_argument("--steps", type=int, default=1400)
    options = parser.parse_args()
    model, tokenizer = train(read_messages(options.clinc), options.steps)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.to(torch.bfloat16).save_pretrained(options.out, safe_serialization=True)
    tokenizer.save_pretrained(options.out)
    digest = hashlib.sha256((options.out / "model.safetensors").read_bytes()).hexdigest()
    (options.out / "DIGEST").write_text(f"{digest}  model.safetensors\n")
    print(f"sha256 {digest}")


if __name__ == "__main__":
    main()
