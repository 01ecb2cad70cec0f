"""How much memory a model takes, for inference and for training, from its shape alone.

Pure functions in bytes. Sources:

- 4-bit weights: half a byte each; scales per block of 64, quantised again in blocks of 256 (QLoRA, Dettmers et al.
  2023, arXiv 2305.14314, section 3: 0.5 bit per parameter, 0.127 with double quantisation).
- Activations: the tensors of a decoder layer that autograd keeps, after Korthikanti et al. 2022 (arXiv 2205.05198,
  section 4.1), for a frozen base, SwiGLU and fused attention (no attention matrix; inputs of frozen linear layers only
  for adapters). With gradient checkpointing (Chen et al. 2016, arXiv 1604.06174): the layers' inputs and one layer.
- Logits: float32, in chunks of at most 256 tokens, as in TRL's ``chunked_nll``.
- Evaluation needs less than a step: the same batches and chunks of logits in float32, without gradients.
- Optimizers: two moments in float32; 8-bit ones a byte each and a float32 per 256 (Dettmers et al. 2021, arXiv
  2110.02861; block size of bitsandbytes).
- Allocator, on a CPU: glibc returns freed blocks to the system only from the end of its heap (mallopt(3)), so
  temporary tensors leave holes. Measured with glibc 2.36: per layer, about its activations and its largest dequantised
  weight. CUDA's caching allocator is assumed to reuse them.
- Loading: safetensors maps the file, whose pages count for the process until they are copied.
- Runtime: the imported libraries, as measured in docs/planning.md.
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
OPTIMIZER_BLOCK = LOSS_CHUNK = 256
LOGIT_COPIES = 5
"""Logits, log-softmax, its exponential, and the gradients of the loss and the logits."""
MIB = 2**20
RUNTIME = {"transformers": 715 * MIB, "unsloth": 730 * MIB}
LARGEST_HEAP_BLOCK = 32 * MIB  # glibc maps larger ones directly (M_MMAP_THRESHOLD_MAX in mallopt(3))
SERVER_RUNTIME = 1800 * MIB  # vLLM's processes on a CPU
GPU_RUNTIME = 1000 * MIB  # CUDA's context, cuBLAS' workspaces and unusable cache: an assumption, not measured


@dataclass(frozen=True)
class MemoryEstimate:
    """Peak bytes on one device, by part.

    Quantisation counts the scales, activations those of one layer for inference, allocator the freed memory that the
    process keeps, cache keys and values, runtime the libraries, and loading the peak before the work begins.
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
        """The peak resident memory: of loading, or of the work."""
        return max(self.needed, self.runtime + self.loading)

    @property
    def needed(self) -> int:
        """The memory that must be free: without mapped pages, which the system can take back."""
        return sum(self.splits().values()) - self.loading

    def splits(self) -> dict[str, int]:
        return asdict(self)


def trainable_parameters(shape: ModelShape, config: TrainConfig) -> int:
    """The number of trained parameters, equal to PEFT's ``get_nb_trainable_parameters``.

    LoRA adds A (rank x inputs) and B (outputs x rank) to a layer, DoRA a magnitude per output; bias ``all`` trains the
    biases of the whole model, ``lora_only`` those of the adapted layers.
    """
    if config.training_method.trains_all_weights:
        return shape.total_parameters
    if config.training_method.adds_virtual_tokens:
        return config.virtual_tokens * shape.embedding_width
    added = sum(config.rank * (layer.inputs + layer.outputs) for layer in shape.adapted)
    magnitudes = sum(layer.outputs for layer in shape.adapted) if config.use_dora else 0
    adapted_biases = sum(layer.outputs for layer in shape.adapted if layer.has_bias)
    return added + magnitudes + {"none": 0, "all": shape.biases, "lora_only": adapted_biases}[config.bias]


def training_memory(
    shape: ModelShape, config: TrainConfig, device: Device, batch_size: int | None = None
) -> MemoryEstimate:
    """The peak of one training process with rows of ``max_length``.

    With fsdp: its shard of weights, gradients and optimizer, and one layer's gathered weights (ZeRO stage 3,
    Rajbhandari et al. 2020, arXiv 1910.02054). ``batch_size`` replaces the recipe's.
    """
    backend = first_backend(config, device)
    compute = compute_bytes(config, device)
    trained = trainable_parameters(shape, config)
    weights, constants = _training_weights(shape, config, compute, backend)
    virtual = config.virtual_tokens if config.training_method.adds_virtual_tokens else 0
    tokens = (batch_size or config.batch_size) * (config.max_length + virtual)
    layer, dequantised = layer_activations(shape, config, compute) * tokens, _dequantised(shape, config, compute)
    gap = dequantised if dequantised <= LARGEST_HEAP_BLOCK else 0
    recomputed = config.use_gradient_checkpointing
    recomputed = device == "cuda" if recomputed == "unsloth" else recomputed
    kept = layer if recomputed else shape.layers * layer
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
    """The peak of serving a model; weights that are stored in 4 bit are served in 4 bit.

    ``bytes_per_parameter`` holds for other weights, keys and values; ``cache_bytes`` is a cache of fixed size.
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
    quantised = shape.quantisable if shape.is_quantised else 0
    return weights + quantised // 2 + (shape.total_parameters - quantised) * shape.stored_bytes


def compute_bytes(config: TrainConfig, device: Device) -> int:
    """Bytes of a number in the computation; ``auto`` is bfloat16 on a GPU, else float32."""
    is_half = device == "cuda" if config.compute_dtype == "auto" else config.compute_dtype == "bfloat16"
    return 2 if is_half else FLOAT32


def _training_weights(shape: ModelShape, config: TrainConfig, compute: int, backend: str) -> tuple[int, int]:
    """Bytes of the weights and of the quantisation scales.

    PEFT casts the unquantised weights of a 4-bit model to float32 for training; Unsloth keeps the compute dtype.
    Trained weights are always float32.
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
    """Bytes of the quantisation scales: a float32 per block; if doubly quantised, a byte, and a float32 per 256."""
    counts = [math.ceil(layer.weights / QUANTISATION_BLOCK) for layer in shape.linear]
    if not double:
        return sum(counts) * FLOAT32
    return sum(blocks + FLOAT32 * math.ceil(blocks / CONSTANTS_BLOCK) + CODE_BOOK for blocks in counts)


def _optimizer_bytes(trained: int, config: TrainConfig, device: Device, backend: str) -> int:
    """Two moments; on a CPU, Unsloth replaces 8-bit optimizers by 32-bit ones."""
    is_8bit = config.optimizer.endswith("8bit") or (config.optimizer == "auto" and device == "cuda")
    if is_8bit and not (device == "cpu" and backend == "unsloth"):
        return MOMENTS * (trained + FLOAT32 * math.ceil(trained / OPTIMIZER_BLOCK))
    return MOMENTS * FLOAT32 * trained


def _dequantised(shape: ModelShape, config: TrainConfig, compute: int) -> int:
    is_quantised = config.training_method.quantises_base or shape.is_quantised
    return max((layer.weights for layer in shape.linear), default=0) * compute if is_quantised else 0


def layer_activations(shape: ModelShape, config: TrainConfig, compute: int) -> int:
    """Bytes per token that autograd keeps of a decoder layer, averaged over the layers."""
    return int(sum(count * size for count, size in _kept_tensors(shape, config, compute)))


def _kept_tensors(shape: ModelShape, config: TrainConfig, compute: int) -> Iterator[tuple[float, int]]:
    """Number and bytes per token of the tensors that autograd keeps of a layer.

    Both norms keep their input in float32, and their output if their weights train. Fused attention keeps queries,
    keys, values and its output; the feed-forward layer the input of its activation and the factors of its product. A
    linear layer keeps its input if its weight or an adapter trains, and the adapter a tensor as wide as its rank.
    Layers of a module share an input of the same width; attention's last layer reads its kept output.
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
