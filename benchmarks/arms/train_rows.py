"""Rows of mixed length or of a training set, and models, for benchmarks/train.py, train_gpu.py and train_step.py."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SEEDLING = ROOT / "seedling" / "model"
WORDS = ROOT / "deployments" / "recipes" / "data" / "support_messages.csv"
SPREAD = 0.9
HELD_OUT = 16
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] }}<|im_end|>{% endgeneration %}{{ '\n' }}{% else %}"
    "{{ message['content'] }}<|im_end|>{{ '\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""ChatML with the markers that TRL's assistant_only_loss asks for."""


@dataclass(frozen=True)
class Rows:
    """What was written.

    Attributes:
        path: Parquet, the columns of a training set.
        held_out: JSON, ``input_ids`` and ``labels`` of HELD_OUT rows more.
        count: rows in ``path``.
        tokens: of all rows together, without padding.
        trained_tokens: those of the assistant's turns.
        padded_share: the share of a batch of ``batch_size`` random rows that is padding.
    """

    path: Path
    held_out: Path
    count: int
    tokens: int
    trained_tokens: int
    padded_share: float


def conversation(draw: random.Random, words: list[str], median: int, longest: int) -> list[dict[str, str]]:
    """A question and an answer of log-normal length (in words), which repeats some of the question."""
    length = min(longest, max(4, round(median * math.exp(draw.gauss(0, SPREAD)))))
    asked = draw.choices(words, k=max(2, length // 3))
    answered = [draw.choice(asked) if draw.random() < 0.5 else draw.choice(words) for _ in range(length - len(asked))]
    return [{"role": "user", "content": " ".join(asked)}, {"role": "assistant", "content": " ".join(answered)}]


def write_rows(folder: Path, count: int, median: int, max_length: int, batch_size: int, seed: int) -> Rows:
    """Write ``count`` rows with a median of ``median`` words, none over ``max_length`` tokens, and HELD_OUT more."""
    draw = random.Random(seed)
    words = sorted(set(WORDS.read_text(encoding="utf-8").replace(",", " ").split()))
    draw.shuffle(words)
    words = words[:300]
    tokenizer = chatml_tokenizer(SEEDLING)
    conversations: list[list[dict[str, str]]] = []
    while len(conversations) < count + HELD_OUT:
        turns = conversation(draw, words, median, longest=max_length)
        if len(tokenise(tokenizer, turns)["input_ids"]) <= max_length:
            conversations.append(turns)
    return _write(folder, conversations, tokenizer, batch_size, draw)


def take_rows(folder: Path, training_set: Path, model: Path, count: int, batch_size: int, seed: int) -> Rows:
    """Write ``count`` random rows of a night's training set (a Parquet file), and HELD_OUT more.

    ``model`` has a ChatML tokenizer.
    """
    import pandas as pd

    found = pd.read_parquet(training_set, columns=["messages"]).sample(count + HELD_OUT, random_state=seed)
    plain = [[{name: turn[name] for name in ("role", "content")} for turn in turns] for turns in found["messages"]]
    return _write(folder, plain, chatml_tokenizer(model), batch_size, random.Random(seed))


def chatml_tokenizer(model: Path) -> Any:
    """A model's tokenizer with TEMPLATE."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model, model_max_length=10**6)
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def _write(
    folder: Path, conversations: list[list[dict[str, str]]], tokenizer: Any, batch_size: int, draw: random.Random
) -> Rows:
    import pyarrow as pa
    import pyarrow.parquet as pq

    count = len(conversations) - HELD_OUT
    tokenised = [tokenise(tokenizer, turns) for turns in conversations]
    path, held_out = folder / f"rows-{count}.parquet", folder / f"held-out-{count}.json"
    table = [
        {
            "example_id": f"e{n}",
            "messages": turns,
            "document_id": f"d{n}",
            "prompt": "benchmark",
            "tools": None,
            "origin": "generated",
            "source": "benchmark",
        }
        for n, turns in enumerate(conversations[:count])
    ]
    pq.write_table(pa.Table.from_pylist(table), path)
    last = tokenised[count:]
    held_out.write_text(json.dumps({key: [row[key] for row in last] for key in ("input_ids", "labels")}), "utf-8")
    used = tokenised[:count]
    lengths = [len(row["input_ids"]) for row in used]
    return Rows(
        path,
        held_out,
        count,
        tokens=sum(lengths),
        trained_tokens=sum(label != -100 for row in used for label in row["labels"]),
        padded_share=_padded_share(lengths, batch_size, draw),
    )


def tokenise(tokenizer: Any, turns: list[dict[str, str]]) -> dict[str, list[int]]:
    """``input_ids`` and ``labels`` of a conversation; only the assistant's tokens have labels."""
    row = tokenizer.apply_chat_template(turns, return_dict=True, return_assistant_tokens_mask=True)
    labels = [token if kept else -100 for token, kept in zip(row["input_ids"], row["assistant_masks"], strict=True)]
    return {"input_ids": row["input_ids"], "labels": labels}


def _padded_share(lengths: list[int], batch_size: int, draw: random.Random) -> float:
    shuffled = draw.sample(lengths, len(lengths))
    batches = [shuffled[first : first + batch_size] for first in range(0, len(shuffled), batch_size)]
    held = sum(max(batch) * len(batch) for batch in batches)
    return 1 - sum(lengths) / held


def write_model(folder: Path, shape: Mapping[str, float], seed: int) -> int:
    """Write a random Qwen2 in bfloat16 with the seedling's tokenizer; returns how many parameters it has."""
    import torch
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(SEEDLING)
    torch.manual_seed(seed)
    ids = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = Qwen2ForCausalLM(Qwen2Config(**shape, **ids, tie_word_embeddings=True))
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return sum(parameter.numel() for parameter in model.parameters())
