"""One test for each thing that the stage takes for granted of Unsloth, TRL, transformers, PEFT and bitsandbytes.

These libraries change fast. A test that fails here after an upgrade says which assumption broke, and in its docstring
where it is relied on.
"""

from __future__ import annotations

import importlib.metadata
import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tasks.core.artifacts import ArtifactRef
from tasks.core.home import PROJECT_ROOT
from tests.unit.train.trial import Trial, new_trial

pytestmark = pytest.mark.slow

PINS = PROJECT_ROOT / "deployments" / "environments"
LIBRARIES = ("unsloth", "unsloth_zoo", "trl", "transformers", "peft", "bitsandbytes", "datasets", "accelerate")
ASK_UNSLOTH = """
import inspect, json
from unsloth import FastLanguageModel
from trl import SFTConfig

def defaults(function):
    return {name: repr(one.default) for name, one in inspect.signature(function).parameters.items()}

asked = SFTConfig(output_dir="none", packing=True, optim="adamw_8bit", report_to="none")
print(json.dumps({
    "load": defaults(FastLanguageModel.from_pretrained),
    "adapter": defaults(FastLanguageModel.get_peft_model),
    "packing": asked.packing,
    "optimizer": getattr(asked.optim, "value", asked.optim),
}))
"""


@pytest.fixture(scope="module")
def unsloth() -> dict[str, Any]:
    """What Unsloth says of itself on a CPU, in a process of its own: it changes the other libraries."""
    done = subprocess.run(
        [sys.executable, "-c", ASK_UNSLOTH], capture_output=True, text=True, check=True, cwd=PROJECT_ROOT
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def trial(tiny_model: Path, training_set: ArtifactRef, tmp_path_factory: pytest.TempPathFactory) -> Trial:
    made = new_trial(tiny_model, training_set, tmp_path_factory.mktemp("contracts"), max_steps=6, save_steps=1)
    made.run()
    return made


@pytest.mark.parametrize("name", LIBRARIES)
def test_the_installed_version_is_the_pinned_one_on_cpu_and_gpu(name: str) -> None:
    """deployments/environments: what is tested here is what a night runs."""
    for device in ("cpu", "gpu"):
        pins = (PINS / f"main-{device}.txt").read_text(encoding="utf-8").splitlines()
        pinned = next(line for line in pins if line.lower().replace("_", "-").startswith(name.replace("_", "-") + "=="))
        assert importlib.metadata.version(name) == pinned.split("==")[1].split()[0]


@pytest.mark.families
def test_unsloth_loads_with_the_arguments_that_are_given(unsloth: dict[str, Any]) -> None:
    """backends._load_with_unsloth; use_exact_model_name goes through as a keyword."""
    load = unsloth["load"]
    assert load["load_in_4bit"] == "True"
    assert {"model_name", "max_seq_length", "dtype", "revision", "use_gradient_checkpointing", "kwargs"} <= set(load)


@pytest.mark.families
def test_unsloth_makes_adapters_with_the_arguments_that_are_given(unsloth: dict[str, Any]) -> None:
    """backends._load_with_unsloth."""
    adapter = unsloth["adapter"]
    wanted = {"r": "16", "lora_alpha": "16", "lora_dropout": "0.0", "bias": "'none'", "use_rslora": "False",
              "random_state": "3407", "loftq_config": "None"}  # fmt: skip
    assert {name: adapter[name] for name in wanted} == wanted
    assert {"target_modules", "use_gradient_checkpointing"} <= set(adapter)


@pytest.mark.families
def test_unsloth_packs_nothing_and_has_no_8_bit_optimizer_on_a_cpu(unsloth: dict[str, Any]) -> None:
    """support.why_not_unsloth sends such recipes to transformers."""
    assert (unsloth["packing"], unsloth["optimizer"]) == (False, "adamw_torch_fused")


def test_trl_computes_the_loss_in_chunks_and_packs_by_best_fit() -> None:
    """trainer.new_trainer leaves both at their defaults; memory.py counts the chunks."""
    from trl import SFTConfig

    config = SFTConfig(output_dir="none", report_to="none", use_cpu=True, bf16=False)
    assert (config.loss_type, config.packing_strategy, config.padding_free) == ("chunked_nll", "bfd", False)


def test_trl_takes_labels_as_they_are(trial: Trial) -> None:
    """rows.prepare_rows masks; the trainer must not."""
    columns = set(trial.trainer.train_dataset.column_names)
    assert {"input_ids", "labels"} <= columns
    assert trial.trainer.train_dataset[0]["labels"] == trial.rows[0]["labels"]


def test_trl_casts_a_qlora_adapter_to_bfloat16(tiny_model: Path, training_set: ArtifactRef, tmp_path: Path) -> None:
    """trainer.kept_in_float32 undoes it; when this fails, it can go."""
    from trl import SFTConfig, SFTTrainer

    made = new_trial(tiny_model, training_set, tmp_path / "one")
    assert {str(value.dtype) for value in made.trained().values()} == {"torch.float32"}
    arguments = SFTConfig(output_dir=str(tmp_path), report_to="none", use_cpu=True, bf16=False)
    trainer = SFTTrainer(
        model=made.model, args=arguments, train_dataset=made.rows, processing_class=made.loaded.tokenizer
    )
    kinds = {str(value.dtype) for value in trainer.model.parameters() if value.requires_grad}
    assert kinds == {"torch.bfloat16"}


def test_a_checkpoint_has_the_files_that_a_resumption_needs(trial: Trial) -> None:
    """checkpoints.seal lists whatever is there; a resumption without one of these would be another run."""
    newest = max(Path(trial.trainer.args.output_dir).glob("checkpoint-*"), key=lambda path: int(path.name[11:]))
    names = {path.name for path in newest.iterdir()}
    wanted = {"adapter_model.safetensors", "adapter_config.json", "optimizer.pt", "scheduler.pt", "rng_state.pth",
              "trainer_state.json", "training_args.bin"}  # fmt: skip
    assert wanted <= names


def test_the_trainer_can_take_a_checkpoint_without_training(trial: Trial) -> None:
    """worker.restore_checkpoint: a training that was killed after its last step has nothing left to train."""
    from transformers import TrainerState

    newest = max(Path(trial.trainer.args.output_dir).glob("checkpoint-*"), key=lambda path: int(path.name[11:]))
    state = TrainerState.load_from_json(str(newest / "trainer_state.json"))
    assert state.global_step == state.max_steps == 6
    expected = trial.trained()
    for parameter in trial.model.parameters():
        if parameter.requires_grad:
            parameter.data.zero_()
    trial.trainer._load_from_checkpoint(str(newest))
    assert all(value.equal(expected[name]) for name, value in trial.trained().items())


def test_old_checkpoints_are_pruned_before_the_new_one_is_told_of() -> None:
    """tracking.Recorder seals on_save: the last sealed checkpoint must not be pruned before the new one is sealed."""
    from transformers import Trainer

    source = inspect.getsource(Trainer._save_checkpoint)
    assert "save_total_limit" in source
    assert Trainer._maybe_log_save_evaluate.__name__ in dir(Trainer)
    body = inspect.getsource(Trainer._maybe_log_save_evaluate)
    assert body.index("_save_checkpoint(") < body.index("on_save(")


def test_transformers_hands_out_the_optimizer_by_its_arguments(trial: Trial) -> None:
    """trainer.lora_plus_optimizer."""
    from transformers import Trainer

    kind, settings = Trainer.get_optimizer_cls_and_kwargs(trial.trainer.args, trial.model)
    assert kind.__name__ == "AdamW"
    assert settings["lr"] == trial.config.learning_rate


def test_peft_has_the_settings_that_are_used() -> None:
    """adapters.add_adapter, adapters.save_adapter, trainer.lora_plus_optimizer."""
    from peft import LoraConfig, PeftModel, PromptTuningConfig, PromptTuningInit
    from peft.optimizers import create_loraplus_optimizer

    lora = LoraConfig()
    assert (lora.use_rslora, lora.use_dora, lora.init_lora_weights, lora.bias) == (False, False, True, "none")
    assert PromptTuningConfig(prompt_tuning_init=PromptTuningInit.SAMPLE_VOCAB).peft_type.value == "PROMPT_TUNING"
    assert "path_initial_model_for_weight_conversion" in inspect.signature(PeftModel.save_pretrained).parameters
    assert "loraplus_lr_ratio" in inspect.signature(create_loraplus_optimizer).parameters


def test_bitsandbytes_pages_nothing_on_a_cpu() -> None:
    """support.device_refusals: it only warns, so a recipe that asks for paging is refused."""
    import bitsandbytes
    import torch

    weight = torch.nn.Parameter(torch.ones(64, 128))
    weight.grad = torch.ones_like(weight)
    with pytest.warns(UserWarning, match="Paged optimizers are not supported on CPU"):
        bitsandbytes.optim.PagedAdamW8bit([weight], lr=1e-3).step()
