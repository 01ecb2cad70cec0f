"""The model card published with the weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from tasks.core.details import EvaluateDetails, Merge, TrainDetails
from tasks.core.methods import METHODS
from tasks.publish.config import PublishConfig

FACTS = ("method", "backend", "quantised_layers", "trainable_parameters", "steps", "trained_token_share")


def model_card(
    config: PublishConfig,
    recipe: str,
    evaluation: EvaluateDetails,
    training: TrainDetails,
    lineage: Mapping[str, Any],
    merge: Merge | None,
) -> str:
    """A card in Hugging Face's form: YAML metadata, description, evaluation and origin."""
    base, name = lineage["base"], str(lineage.get("method") or "lora")
    method = METHODS.get(name, METHODS["lora"])
    metadata = {
        "license": config.licence,
        "base_model": base["model"],
        "library_name": "peft" if method.peft_type else "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["retune", name],
    }
    lower, upper = evaluation.intervals["candidate"] or (0.0, 1.0)
    facts = (fact for fact in FACTS if fact in training.model_fields_set)
    kept = f"\n- kept step: {training.validation.kept_step}" if training.validation else ""
    prompts = ", ".join(f"{row['prompt']} {row['rows']}" for row in lineage["prompts"])
    files = ["- `adapter/`: PEFT adapter with its tokenizer and chat template."] if method.peft_type else []
    files.append("- `training_profile.json`: profile of the training set, for comparison with the next one.")
    if merge is not None:
        files.append(
            f"- `merged/`: {config.dtype} weights{method.card_merged}; top-1 agreement with the"
            f" trained model {merge.top1_agreement:.3f}, largest logit difference {merge.max_logit_difference:.2g}."
        )
    else:
        files.append("- It did not pass the gate, so it was not merged.")
    parts = [
        f"---\n{yaml.safe_dump(metadata, sort_keys=False).strip()}\n---",
        f"# {config.name}",
        f"{method.card_title} `{base['model']}` (digest `{base['digest'][:16]}`), trained by Retune's recipe"
        f" `{recipe}`." + (f" The base: {base['origin']}" if "origin" in base else ""),
        "## Evaluation",
        f"{evaluation.metric} on {evaluation.n} held-out documents: base {evaluation.base:.1%}, this model"
        f" {evaluation.candidate:.1%} (interval {lower:.1%} to {upper:.1%}). {evaluation.reason}",
        "## Training",
        "\n".join(f"- {fact.replace('_', ' ')}: {getattr(training, fact)}" for fact in facts) + kept,
        "## Data",
        f"{len(lineage['documents'])} source documents; rows by prompt: {prompts or 'none, collected only'}."
        " `lineage.json` names every document, prompt digest and artifact.",
        "## Files",
        "\n".join(files),
    ]
    return "\n\n".join(parts) + "\n"
