"""Training of two steps in the test's own process, as the worker trains."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tasks.core.config import ModelSource
from tasks.train.config import TrainConfig

CONVERSATIONS = [
    [{"role": "user", "content": f"where is my card number {number}"}, {"role": "assistant", "content": answer}]
    for number, answer in enumerate(("cards", "billing", "accounts", "cards"))
]


def train_two_steps(model: ModelSource, work: Path, **changes: Any) -> tuple[Any, set[str], set[str]]:
    """Train as the worker does, in this process.

    Returns:
        the trained model, the names of the layers whose A and B both changed, and of all other weights that changed.
    """
    from datasets import Dataset

    from tasks.train.backends import load_trainable
    from tasks.train.chat_templates import with_chat_template
    from tasks.train.masking import row_tokeniser
    from tasks.train.trainer import new_trainer

    settings: dict[str, Any] = {
        "backend": "transformers",
        "rank": 4,
        "max_steps": 2,
        "warmup_steps": 0,
        "learning_rate": 1e-2,
        "accumulation_steps": 1,
        "max_length": 128,
        **changes,
    }
    config = TrainConfig(**settings)
    loaded = load_trainable(config, model, 1, work)
    tokenizer = with_chat_template(loaded.tokenizer, config.chat_template)
    tokenise = row_tokeniser(tokenizer, config.max_length)
    rows = [tokenise(conversation) for conversation in CONVERSATIONS]
    dataset = Dataset.from_list([{"input_ids": row.input_ids, "labels": row.labels} for row in rows])
    trainer = new_trainer(config, loaded, tokenizer, dataset, work, 1)
    before = {name: weight.detach().clone() for name, weight in trainer.model.named_parameters()}
    trainer.train()
    changed = {name for name, weight in trainer.model.named_parameters() if not weight.equal(before[name])}
    a = {name.partition(".lora_A.")[0] for name in changed if ".lora_A." in name}
    b = {name.partition(".lora_B.")[0] for name in changed if ".lora_B." in name}
    assert trainer.state.global_step == 2
    return trainer.model, a & b, {name for name in changed if ".lora_" not in name}


def layers_named(model: Any, names: tuple[str, ...]) -> set[str]:
    """The layers of a PEFT model that have one of some names, by a rule of this test's own."""
    wanted = re.compile(rf"(^|\.)({'|'.join(map(re.escape, names))})(\.base_layer)?$")
    return {
        name.removesuffix(".base_layer")
        for name, module in model.named_modules()
        if wanted.search(name) and hasattr(module, "weight")
    }
