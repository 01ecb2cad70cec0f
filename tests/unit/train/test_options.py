"""What each option of the recipe does, seen in the model, the optimizer and the curve; not that it is accepted."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.core.artifacts import ArtifactRef
from tests.unit.train.trial import Trial, new_trial, settings

pytestmark = pytest.mark.slow

MakeTrial = Callable[..., Trial]


@pytest.fixture
def trial(tiny_model: Path, training_set: ArtifactRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeTrial:
    monkeypatch.chdir(tmp_path)
    made = iter(range(100))

    def make(**changes: Any) -> Trial:
        return new_trial(tiny_model, training_set, tmp_path / f"trial-{next(made)}", **changes)

    return make


def lora_layers(model: Any) -> list[Any]:
    from peft.tuners.lora import LoraLayer

    return [module for module in model.modules() if isinstance(module, LoraLayer)]


def full_weight(layer: Any) -> Any:
    """A 4-bit layer's weight, dequantised."""
    import bitsandbytes.functional as bnb

    weight = layer.get_base_layer().weight
    return bnb.dequantize_4bit(weight.data, weight.quant_state).float()


def logits(model: Any, ids: list[int]) -> Any:
    import torch

    with torch.no_grad():
        return model.eval()(input_ids=torch.tensor([ids])).logits


@pytest.mark.parametrize(("use_rslora", "scaling"), [(False, 8 / 4), (True, 8 / math.sqrt(4))])
def test_rank_alpha_and_rslora_set_size_and_scaling(trial: MakeTrial, use_rslora: bool, scaling: float) -> None:
    layers = lora_layers(trial(use_rslora=use_rslora).model)
    assert {layer.scaling["default"] for layer in layers} == {scaling}
    assert {layer.lora_A["default"].weight.shape[0] for layer in layers} == {4}


def test_dropout_makes_two_passes_differ_while_training_only(trial: MakeTrial) -> None:
    import torch

    made = trial(dropout=0.5)
    layer = lora_layers(made.model)[0]
    torch.nn.init.ones_(layer.lora_B["default"].weight)
    hidden = torch.ones(1, 3, layer.in_features)
    assert not torch.equal(layer.train()(hidden), layer(hidden))
    assert torch.equal(layer.eval()(hidden), layer(hidden))


@pytest.mark.parametrize(("bias", "moved"), [("none", set()), ("all", {"q_proj", "k_proj", "v_proj"}),
                                             ("lora_only", {"q_proj"})])  # fmt: skip
def test_bias_trains_the_biases_of_no_layer_of_every_or_of_the_adapted(
    trial: MakeTrial, bias: str, moved: set[str]
) -> None:
    made = trial(bias=bias, method="lora", target_modules=["q_proj"])
    before = {name: value.detach().clone() for name, value in made.model.named_parameters() if name.endswith(".bias")}
    made.run()
    changed = {
        name.removesuffix(".base_layer.bias").removesuffix(".bias").rsplit(".", 1)[-1]
        for name, value in made.model.named_parameters()
        if name in before and not value.equal(before[name])
    }
    assert changed == moved


def test_dora_learns_magnitudes(trial: MakeTrial) -> None:
    made = trial(use_dora=True)
    before = {name: value for name, value in made.trained().items() if "lora_magnitude_vector" in name}
    made.run()
    after = made.trained()
    assert len(before) == len(lora_layers(made.model)) == 14
    assert all(not after[name].equal(value) for name, value in before.items())


def test_loftq_makes_up_for_a_part_of_what_quantisation_lost(trial: MakeTrial, tiny_model: Path) -> None:
    from safetensors.torch import load_file

    original = load_file(tiny_model / "model.safetensors")
    made = trial(init_weights="loftq", rank=16)
    for name, layer in made.model.named_modules():
        if layer in lora_layers(made.model):
            exact = original[name.removeprefix("base_model.model.") + ".weight"].float()
            lost = (exact - full_weight(layer)).norm()
            left = (exact - full_weight(layer) - layer.get_delta_weight("default")).norm()
            assert left < 0.9 * lost, name


def test_pissa_begins_as_the_base_and_is_written_for_the_untouched_one(
    trial: MakeTrial, tiny_model: Path, tmp_path: Path
) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from tasks.train.adapters import save_adapter

    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    ids = list(range(5, 25))
    plain = logits(base, ids)
    made = trial(method="lora", init_weights="pissa", alpha=4)
    assert lora_layers(made.model)[0].lora_B["default"].weight.abs().max() > 0
    torch.testing.assert_close(logits(made.model, ids), plain, atol=1e-4, rtol=0)
    made.run()
    tuned = logits(made.model, ids)
    assert (tuned - plain).abs().max() > 1e-3
    save_adapter(made.model, made.config, tmp_path / "adapter", Path(made.trainer.args.output_dir))
    again = PeftModel.from_pretrained(base, str(tmp_path / "adapter"))
    torch.testing.assert_close(logits(again, ids), tuned, atol=1e-4, rtol=0)
    assert again.peft_config["default"].r == 8


def test_lora_plus_moves_b_faster_than_a(trial: MakeTrial) -> None:
    def step_sizes(**changes: Any) -> tuple[float, float]:
        made = trial(max_steps=1, weight_decay=0.0, optimizer="adamw_torch", **changes)
        before = made.trained()
        made.run()
        moved = {name: (value - before[name]).abs().max().item() for name, value in made.trained().items()}
        # In Adam's first step each weight moves by its learning rate; A does not move while B is zero.
        return max(value for name, value in moved.items() if "lora_B" in name), made.config.learning_rate

    plain, rate = step_sizes()
    assert plain == pytest.approx(rate, rel=1e-3)
    faster, rate = step_sizes(lora_plus_ratio=16)
    assert faster == pytest.approx(16 * rate, rel=1e-3)


def test_checkpointing_computes_each_layer_twice_and_changes_nothing(trial: MakeTrial) -> None:
    def first_loss(**changes: Any) -> tuple[float, int]:
        made = trial(max_steps=1, **changes)
        passes: list[Any] = []
        made.model.get_base_model().model.layers[0].mlp.register_forward_pre_hook(lambda *_: passes.append(1))
        return made.run()[0], len(passes)

    loss, once = first_loss(use_gradient_checkpointing=False)
    same, twice = first_loss(use_gradient_checkpointing=True)
    assert (once, twice) == (1, 2)
    assert same == pytest.approx(loss, abs=1e-6)


def test_the_kinds_of_four_bits_differ_and_are_real_4bit_layers(trial: MakeTrial) -> None:
    from bitsandbytes.nn import Linear4bit

    weights = {}
    for kind in ("nf4", "fp4"):
        layers = lora_layers(trial(quant_type=kind).model)
        assert all(isinstance(layer.get_base_layer(), Linear4bit) for layer in layers)
        assert {layer.get_base_layer().weight.quant_state.quant_type for layer in layers} == {kind}
        weights[kind] = full_weight(layers[0])
    assert not weights["nf4"].equal(weights["fp4"])
    assert weights["nf4"].unique().numel() > 16


def test_double_quantisation_lowers_the_measured_footprint(trial: MakeTrial) -> None:
    def constants(double: bool) -> int:
        states = [
            layer.get_base_layer().weight.quant_state for layer in lora_layers(trial(double_quantisation=double).model)
        ]
        nested = sum(int(state.state2.absmax.nbytes) for state in states if state.nested)
        return sum(int(state.absmax.nbytes) for state in states) + nested

    assert constants(True) < 0.5 * constants(False)


def test_the_compute_dtype_is_that_of_the_hidden_states(trial: MakeTrial) -> None:
    import torch

    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        layer = lora_layers(trial(compute_dtype=name).model)[0].get_base_layer()
        hidden = torch.ones(1, 64, dtype=dtype)
        assert (layer.compute_dtype, layer(hidden).dtype) == (dtype, dtype)


@pytest.mark.parametrize(
    ("optimizer", "dtypes", "fused"),
    [("adamw_8bit", {"torch.uint8"}, None), ("adamw_torch", {"torch.float32"}, False),
     ("auto", {"torch.float32"}, True), ("adamw_torch_fused", {"torch.float32"}, True)],
)  # fmt: skip
def test_the_optimizer_keeps_its_moments_as_it_is_named(
    trial: MakeTrial, optimizer: str, dtypes: set[str], fused: bool | None
) -> None:
    # bitsandbytes leaves tensors below 4,096 elements in 32 bit.
    made = trial(optimizer=optimizer, rank=64, max_steps=2)
    made.run()
    inner = getattr(made.trainer.optimizer, "optimizer", made.trainer.optimizer)
    large = {id(value) for value in made.model.parameters() if value.requires_grad and value.numel() >= 4096}
    moments = {
        str(value.dtype)
        for parameter, state in inner.state.items()
        if id(parameter) in large
        for name, value in state.items()
        if name in ("state1", "state2", "exp_avg", "exp_avg_sq")
    }
    assert moments == dtypes
    if fused is not None:
        assert bool(inner.param_groups[0].get("fused")) is fused


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ("linear", [0, 0.5, 1, 0.8, 0.6, 0.4, 0.2]),
        ("constant", [0, 0.5, 1, 1, 1, 1, 1]),
        ("cosine", [0, 0.5, 1, 0.904508, 0.654508, 0.345492, 0.095492]),
    ],
)
def test_the_rate_warms_up_and_follows_its_schedule(trial: MakeTrial, schedule: str, rates: list[float]) -> None:
    made = trial(schedule=schedule, warmup_steps=2, max_steps=7)
    made.run()
    assert made.logged("learning_rate") == pytest.approx([1e-3 * rate for rate in rates], rel=1e-4)


def test_weight_decay_pulls_weights_towards_zero(trial: MakeTrial) -> None:
    def norm(decay: float) -> float:
        made = trial(weight_decay=decay, learning_rate=1e-2, optimizer="adamw_torch")
        made.run()
        return sum(float(value.norm()) for name, value in made.trained().items() if "lora_A" in name)

    assert norm(10.0) < 0.95 * norm(0.0)


def test_neftune_puts_noise_on_the_embeddings_while_training(trial: MakeTrial) -> None:
    calm, noisy = trial(max_steps=2), trial(max_steps=2, neftune_alpha=50.0)
    quiet, loud = calm.run(), noisy.run()
    assert abs(quiet[0] - loud[0]) > 1e-3
    assert trial(max_steps=2).run() == quiet


def test_the_seed_decides_the_initial_weights(trial: MakeTrial) -> None:
    one, same, other = trial().trained(), trial().trained(), trial(seed=8).trained()
    assert all(one[name].equal(same[name]) for name in one)
    assert not any(one[name].equal(other[name]) for name in one if "lora_A" in name)


def test_lora_leaves_the_base_unquantised(trial: MakeTrial) -> None:
    from tasks.core.base_model import quantised_layers

    made = trial(method="lora", max_steps=20, learning_rate=1e-2)
    assert quantised_layers(made.model) == 0
    losses = made.run()
    assert losses[-1] < losses[0] - 0.5


def test_full_trains_every_weight(trial: MakeTrial) -> None:
    made = trial(method="full")
    before = {name: value.detach().clone() for name, value in made.model.named_parameters()}
    made.run()
    unmoved = [name for name, value in made.model.named_parameters() if value.equal(before[name])]
    assert not unmoved


def test_prompt_tuning_trains_virtual_tokens_and_nothing_else(trial: MakeTrial) -> None:
    made = trial(method="prompt_tuning", virtual_tokens=5, learning_rate=0.1)
    before = made.trained()
    assert [tuple(value.shape) for value in before.values()] == [(5, 64)]
    losses = made.run()
    assert losses[-1] < losses[0]
    assert all(not value.equal(before[name]) for name, value in made.trained().items())


def test_an_adapter_is_gone_on_from_only_if_it_fits(trial: MakeTrial, tmp_path: Path) -> None:
    from tasks.core.errors import ModelError
    from tasks.train.adapters import save_adapter

    first = trial()
    first.run()
    save_adapter(first.model, first.config, tmp_path / "champion", tmp_path)
    expected = first.trained()
    second = trial(initial=str(tmp_path / "champion"))
    assert all(value.equal(expected[name]) for name, value in second.trained().items())
    for changes, says in (
        ({"rank": 8}, "its rank is 4, not 8"),
        ({"target_modules": ["q_proj"]}, r"on other layers, such as .*lora_"),
    ):
        with pytest.raises(ModelError, match=says):
            trial(initial=str(tmp_path / "champion"), **changes)


def test_an_adapter_fits_by_its_layers_whatever_they_are_called(trial: MakeTrial, tmp_path: Path) -> None:
    from tasks.core.errors import ModelError
    from tasks.train.adapters import save_adapter

    first = trial(target_modules=["q_proj"])
    first.run()
    save_adapter(first.model, first.config, tmp_path / "champion", tmp_path)
    expected = first.trained()
    second = trial(initial=str(tmp_path / "champion"), target_modules=["self_attn.q_proj"])
    assert all(value.equal(expected[name]) for name, value in second.trained().items())
    with pytest.raises(ModelError, match=r"it has no .*k_proj\.lora_A"):
        trial(initial=str(tmp_path / "champion"), target_modules=["q_proj", "k_proj"])


def test_a_base_that_is_to_be_shared_has_one_dtype_in_each_layer(tiny_model: Path, tmp_path: Path) -> None:
    """FSDP flattens the frozen weights of a layer into one tensor."""
    from tasks.core.base_model import quantised_layers
    from tasks.core.config import ModelSource
    from tasks.train.backends import load_trainable

    config = settings(processes=2, sharding="fsdp", compute_dtype="bfloat16")
    model = load_trainable(config, ModelSource(path=str(tiny_model)), 7, tmp_path).model
    assert quantised_layers(model) == 14
    for layer in model.get_base_model().model.layers:
        frozen = {str(value.dtype) for value in layer.parameters() if not value.requires_grad}
        assert frozen == {"torch.bfloat16"}


def test_target_modules_are_those_that_are_named(trial: MakeTrial) -> None:
    made = trial(target_modules=["k_proj", "up_proj"])
    adapted = lora_layers(made.model)
    names = {name.rsplit(".", 1)[-1] for name, module in made.model.named_modules() if module in adapted}
    assert names == {"k_proj", "up_proj"}
