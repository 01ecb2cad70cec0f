"""A tiny model that transformers has no class for: its folder brings the Python code, as older families do."""

from __future__ import annotations

import json
from pathlib import Path

from tests.tiny_model import tiny_tokenizer

CODE = '''"""A decoder of two layers whose attention is projected by layers of whatever names."""

import torch
from transformers import GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast


class TinyConfig(PreTrainedConfig):
    model_type = "MODEL_TYPE"

    def __init__(self, projections=("W_pack",), hidden_size=64, vocab_size=320, num_hidden_layers=2, **settings):
        super().__init__(**settings)
        self.projections = list(projections)
        self.hidden_size, self.vocab_size, self.num_hidden_layers = hidden_size, vocab_size, num_hidden_layers


class Attention(torch.nn.Module):
    def __init__(self, config):
        super().__init__()
        self.names, width = config.projections, config.hidden_size
        for name in self.names:
            self.add_module(name, torch.nn.Linear(width, 3 * width // len(self.names), bias=False))
        self.out = torch.nn.Linear(width, width, bias=False)

    def forward(self, hidden):
        fused = torch.cat([getattr(self, name)(hidden) for name in self.names], dim=-1)
        query, key, value = fused.unsqueeze(1).chunk(3, dim=-1)
        mixed = torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return hidden + self.out(mixed.squeeze(1))


class TinyModel(PreTrainedModel):
    config_class = TinyConfig

    def __init__(self, config):
        super().__init__(config)
        self.embed_tokens = torch.nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = torch.nn.ModuleList(Attention(config) for _ in range(config.num_hidden_layers))
        self.post_init()

    def get_input_embeddings(self):
        return self.embed_tokens

    def forward(self, input_ids=None, attention_mask=None, inputs_embeds=None, **settings):
        hidden = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        for layer in self.layers:
            hidden = layer(hidden)
        return BaseModelOutputWithPast(last_hidden_state=hidden)


class TinyForCausalLM(PreTrainedModel, GenerationMixin):
    config_class = TinyConfig
    base_model_prefix = "transformer"

    def __init__(self, config):
        super().__init__(config)
        self.transformer = TinyModel(config)
        self.lm_head = torch.nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self):
        return self.transformer.embed_tokens

    def get_output_embeddings(self):
        return self.lm_head

    def forward(self, input_ids=None, attention_mask=None, labels=None, **settings):
        logits = self.lm_head(self.transformer(input_ids, **settings).last_hidden_state)
        loss = None if labels is None else self.loss_function(logits, labels, self.config.vocab_size)
        return CausalLMOutputWithPast(loss=loss, logits=logits)
'''
CLASSES = {"AutoConfig": "modeling_tiny.TinyConfig", "AutoModelForCausalLM": "modeling_tiny.TinyForCausalLM"}


def write_tiny_remote_model(folder: Path, model_type: str, projections: tuple[str, ...]) -> Path:
    """Write config, code, weights and tokenizer in Hugging Face layout; none of the code is run."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    config = {
        "model_type": model_type,
        "architectures": ["TinyForCausalLM"],
        "auto_map": CLASSES,
        "projections": projections,
        "hidden_size": 64,
        "vocab_size": 320,
        "num_hidden_layers": 2,
        "tie_word_embeddings": False,
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "modeling_tiny.py").write_text(CODE.replace("MODEL_TYPE", model_type), encoding="utf-8")
    torch.manual_seed(0)
    shapes = {"transformer.embed_tokens": (320, 64), "lm_head": (320, 64)}
    for layer in range(2):
        shapes |= {f"transformer.layers.{layer}.{name}": (192 // len(projections), 64) for name in projections}
        shapes[f"transformer.layers.{layer}.out"] = (64, 64)
    weights = {f"{name}.weight": torch.randn(shape) * 0.1 for name, shape in shapes.items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    tiny_tokenizer().save_pretrained(folder)
    return folder
