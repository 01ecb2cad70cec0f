"""How much memory a model takes, for inference and for training, from its shape alone.

Pure functions in bytes. What is counted, and where it is from:

- 4-bit weights: half a byte each; constants in blocks of 64, quantised again in blocks of 256 (QLoRA, Dettmers et al.
  2023, arXiv 2305.14314, section 3: 0.5 bit a parameter, 0.127 with double quantisation).
- Activations: what autograd keeps of a decoder layer, in the manner of Korthikanti et al. 2022 (arXiv 2205.05198,
  section 4.1), for a frozen base, SwiGLU and fused attention: the input of a frozen linear layer is kept only where an
  adapter reads it, and no attention matrix is kept. With gradient checkpointing (Chen et al. 2016, arXiv 1604.06174)
  the layers' inputs, and one layer's activations.
- Logits: in float32, in chunks of at most 256 tokens, as TRL's ``chunked_nll`` computes the loss.
- Optimizers: two moments in float32, 8 bytes a trained parameter; 8-bit ones 2 bytes and a float32 for each 256
  (Dettmers et al. 2021, arXiv 2110.02861; block size of bitsandbytes).
- Allocator, on a CPU: glibc gives freed blocks back to the system only from its heap's end (mallopt(3)), and the
  temporary tensors of each layer leave holes between those that are kept. Measured with glibc 2.36: about a layer's
  activations and its largest dequantised weight for each layer, with gradient checkpointing too. CUDA's caching
  allocator is taken to reuse them.
- Loading: safetensors maps the file into memory, and its pages count for the process until they are copied.

The runtime is what the libraries take once they are imported; measured, see docs/planning.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from tasks.train.config import Device, TrainConfig, first_backend
from tasks.train.model_shape import ModelShape

FLOAT32 = 4
MOMENTS = 2
QUANTISATION_BLOCK, CONSTANTS_BLOCK = 64, 256
CODE_BOOK = 256 * FLOAT32
OPTIMIZER_BLOCK = 256
LOSS_CHUNK = 256
LOGIT_COPIES = 5
"""Logits, their log-softmax, its exponential, the gradient of the loss, and that of the logits."""
MIB = 2**20
RUNTIME = {"transformers": 715 * MIB, "unsloth": 730 * MIB}
LARGEST_HEAP_BLOCK = 32 * MIB
"""glibc asks the system for larger ones directly (M_MMAP_THRESHOLD_MAX in mallopt(3))."""
SERVER_RUNTIME = 1800 * MIB
"""vLLM's three processes on a CPU."""
GPU_RUNTIME = 1000 * MIB
"""CUDA's context, cuBLAS' workspaces and what PyTorch's allocator cannot use: an assumption, never measured here."""


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes on one device at the worst moment.

    Attributes:
        weights: of the base and of what is trained on it.
        quantisation: the constants of the 4-bit blocks.
        gradients: of what is trained.
        optimizer: its state.
        activations: kept for the backward pass; for inference, those of one layer.
        logits: of the chunk of tokens whose loss is computed.
        allocator: freed memory that the process keeps.
        cache: keys and values of the tokens that are served.
        runtime: interpreter, libraries, CUDA's context.
        loading: what reading the weights holds at its peak; it is over when training begins.
    """

    weights: int
    quantisation: int = 0
    gradients: int = 0
    optimizer: int = 0
    activations: int = 0
    logits: int = 0
    allocator: int = 0
    cache: int = 0
    runtime: int = 0
    loading: int = 0

    @property
    def total(self) -> int:
        """The peak of the process's resident memory: of loading, or of the work itself."""
        return max(self.needed, self.runtime + self.loading)

    @property
    def needed(self) -> int:
        """What must be free: the peak without the mapped pages, which the system takes back where it needs them."""
        work: int = sum(asdict(self).values()) - self.loading
        return work

    def splits(self) -> dict[str, int]:
        """The parts by name; loading is one that the others do not add to."""
        return asdict(self)


def trainable_parameters(shape: ModelShape, config: TrainConfig) -> int:
    """How many numbers training changes: exactly what PEFT's ``get_nb_trainable_parameters`` says.

    LoRA adds A (rank x inputs) and B (outputs x rank) to a layer, DoRA a magnitude for each output; bias ``all`` frees
    the biases of the whole model, ``lora_only`` those of the adapted layers.
    """
    if config.training_method.trains_all_weights:
        return shape.total_parameters
    if config.training_method.adds_virtual_tokens:
        return config.virtual_tokens * shape.embedding_width
    added = sum(config.rank * (layer.inputs + layer.outputs) for layer in shape.adapted)
    if config.use_dora:
        added += sum(layer.outputs for layer in shape.adapted)
    if config.bias == "all":
        return added + shape.biases
    if config.bias == "lora_only":
        return added + sum(layer.outputs for layer in shape.adapted if layer.has_bias)
    return added


def training_memory(
    shape: ModelShape, config: TrainConfig, device: Device, batch_size: int | None = None
) -> MemoryEstimate:
    """The peak of one process of a training whose rows are as long as the recipe allows.

    With fsdp it holds its share of weights, gradients and optimizer, and one layer's weights gathered (ZeRO stage 3,
    Rajbhandari et al. 2020, arXiv 1910.02054).

    Args:
        shape: of the model.
        config: method, lengths and options.
        device: where it trains.
        batch_size: rows at once, instead of the recipe's.
    """
    backend = first_backend(config, device)
    compute = compute_bytes(config, device)
    trained = trainable_parameters(shape, config)
    weights, constants = _training_weights(shape, config, compute, backend)
    tokens = (batch_size or config.batch_size) * (config.max_length + _virtual_tokens(config))
    layer, dequantised = layer_activations(shape, config, compute) * tokens, _dequantised(shape, config, compute)
    gap = dequantised if dequantised <= LARGEST_HEAP_BLOCK else 0
    kept = layer if (recomputed := _is_checkpointed(config, device)) else shape.layers * layer
    inputs = shape.layers * tokens * shape.hidden * compute if recomputed else 0
    shards = config.processes if config.sharding == "fsdp" else 1
    gathered = weights // shape.layers if shards > 1 else 0
    return MemoryEstimate(
        weights=weights // shards + gathered,
        quantisation=constants // shards,
        gradients=trained * FLOAT32 // shards,
        optimizer=_optimizer_bytes(trained, config, device, backend) // shards,
        activations=inputs + kept + dequantised,
        logits=LOGIT_COPIES * min(LOSS_CHUNK, tokens) * shape.vocabulary * FLOAT32,
        allocator=shape.layers * (layer + gap) if device == "cpu" else 0,
        runtime=RUNTIME[backend] if device == "cpu" else GPU_RUNTIME,
        loading=_loading_bytes(shape, weights + constants) if device == "cpu" else 0,
    )


def inference_memory(
    shape: ModelShape, bytes_per_parameter: int, device: Device, cached_tokens: int, cache_bytes: int | None = None
) -> MemoryEstimate:
    """The peak of serving a model.

    Args:
        shape: of the model; one that is stored in 4 bit is served in 4 bit.
        bytes_per_parameter: of the others, and of keys and values.
        device: where it is served.
        cached_tokens: whose keys and values are kept.
        cache_bytes: room that the server sets aside for them whatever their number.
    """
    quantised = shape.quantisable if shape.is_quantised else 0
    in_cache = 2 * shape.layers * shape.key_value * bytes_per_parameter * cached_tokens
    return MemoryEstimate(
        weights=quantised // 2 + (shape.total_parameters - quantised) * bytes_per_parameter,
        quantisation=_constants(shape, double=True) if quantised else 0,
        activations=(4 * shape.hidden + 3 * shape.intermediate) * bytes_per_parameter * min(cached_tokens, LOSS_CHUNK),
        logits=shape.vocabulary * FLOAT32,
        cache=in_cache if cache_bytes is None else cache_bytes,
        runtime=SERVER_RUNTIME if device == "cpu" else GPU_RUNTIME,
    )


def _loading_bytes(shape: ModelShape, weights: int) -> int:
    """The finished weights, and the pages of the mapped file that they were made from."""
    quantised = shape.quantisable if shape.is_quantised else 0
    return weights + quantised // 2 + (shape.total_parameters - quantised) * shape.stored_bytes


def compute_bytes(config: TrainConfig, device: Device) -> int:
    """Bytes of a number in the computation: bfloat16 where a GPU has it, unless the recipe says otherwise."""
    if config.compute_dtype == "auto":
        return 2 if device == "cuda" else FLOAT32
    return 2 if config.compute_dtype == "bfloat16" else FLOAT32


def _virtual_tokens(config: TrainConfig) -> int:
    return config.virtual_tokens if config.training_method.adds_virtual_tokens else 0


def _training_weights(shape: ModelShape, config: TrainConfig, compute: int, backend: str) -> tuple[int, int]:
    """Bytes of the weights, and of the constants of those that are quantised.

    PEFT's preparation of a 4-bit model for training casts all that is not quantised to float32; Unsloth leaves it in
    the type of the computation. What is trained is in float32 always.
    """
    if config.training_method.trains_all_weights:
        return shape.total_parameters * FLOAT32, 0
    trained = trainable_parameters(shape, config) * FLOAT32
    if not config.training_method.quantises_base and not shape.is_quantised:
        return shape.total_parameters * compute + trained, 0
    others = FLOAT32 if backend == "transformers" else compute
    base = math.ceil(shape.quantisable / 2) + (shape.total_parameters - shape.quantisable) * others
    return base + trained, _constants(shape, config.double_quantisation or shape.is_quantised)


def _constants(shape: ModelShape, double: bool) -> int:
    """Bytes of the constants: one for each block, and with double quantisation one byte, and more for each 256."""
    total = 0
    for layer in shape.linear:
        blocks = math.ceil(layer.weights / QUANTISATION_BLOCK)
        nested = blocks + FLOAT32 * math.ceil(blocks / CONSTANTS_BLOCK) + CODE_BOOK
        total += nested if double else blocks * FLOAT32
    return total


def _optimizer_bytes(trained: int, config: TrainConfig, device: Device, backend: str) -> int:
    """Two moments; Unsloth takes 32 bit for 8-bit ones on a CPU."""
    is_8bit = config.optimizer.endswith("8bit") or (config.optimizer == "auto" and device == "cuda")
    if is_8bit and not (device == "cpu" and backend == "unsloth"):
        return MOMENTS * (trained + FLOAT32 * math.ceil(trained / OPTIMIZER_BLOCK))
    return MOMENTS * FLOAT32 * trained


def _is_checkpointed(config: TrainConfig, device: Device) -> bool:
    wanted = config.use_gradient_checkpointing
    return device == "cuda" if wanted == "unsloth" else wanted


def _dequantised(shape: ModelShape, config: TrainConfig, compute: int) -> int:
    """The largest weight that a layer's forward or backward pass turns back from 4 bit."""
    is_quantised = config.training_method.quantises_base or shape.is_quantised
    return max((layer.weights for layer in shape.linear), default=0) * compute if is_quantised else 0


def layer_activations(shape: ModelShape, config: TrainConfig, compute: int) -> int:
    """Bytes that autograd keeps of a decoder layer for each token, the mean over the layers."""
    return int(sum(count * size for count, size in _kept_tensors(shape, config, compute)))


def _kept_tensors(shape: ModelShape, config: TrainConfig, compute: int) -> Iterator[tuple[float, int]]:
    """How many tensors of which bytes a token autograd keeps of a layer.

    Both norms keep their input in float32, and what they made of it where their own weights learn; fused attention
    keeps queries, keys, values and its output; the feed-forward layer the input of its activation and the factors of
    its product; a linear layer its input where its weight or an adapter learns from it, and the adapter the rank's
    width. Layers side by side in a module read the same input where it is as wide; the attention's last layer reads the
    output that the attention keeps anyway.
    """
    is_full = config.training_method.trains_all_weights
    yield 4 if is_full else 2, shape.hidden * FLOAT32
    yield 2, shape.query * compute
    yield 2, shape.key_value * compute
    yield 3 if shape.is_gated else 1, shape.intermediate * compute
    inputs = set()
    for layer in shape.linear if is_full else shape.adapted:
        module = layer.name.rpartition(".")[0]
        inputs.add((module, shape.hidden if "att" in module.rpartition(".")[2] else layer.inputs))
    for _, width in inputs:
        yield 1 / shape.layers, width * compute
    yield len(shape.adapted) / shape.layers, config.rank * compute
