"""What each stage reports about its work, stored as ``summary.details`` in the manifest of its artifact.

A field that a stage does not set stays out of the manifest. A field that an older manifest lacks has its default.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

Counts = dict[str, int]  # rows, by rule, label, split or another name


class Details(BaseModel):
    """The base of all reports: read-only, and open to keys that another version of Retune wrote."""

    model_config = ConfigDict(frozen=True, defer_build=True)


class CollectDetails(Details):
    """Of collect. ``splits``, ``conversations``: documents and conversations by split; ``found``: replaced.

    ``ignored``: rows by the keys that nothing reads, such as ``messages[].name``; ``left_out``: rows that
    ``collect.where`` filtered out; ``gone_but_held_out``: held-out documents that are no longer in the sources.
    """

    sources: Counts = {}
    left_out: int = 0
    splits: Counts = {}
    conversations: Counts = {}
    gone_but_held_out: int = 0
    superseded: int = 0
    rules: Counts = {}
    ignored: Counts = {}
    found: Counts = {}
    labels: Counts = {}
    notes: list[str] = []


class DocumentsDetails(Details):
    """Of check_documents. ``warnings``: by rule, what was observed."""

    conversations: Counts = {}
    rules: Counts = {}
    by_contract: dict[str, Counts] = {}
    by_source: dict[str, Counts] = {}
    warnings: dict[str, str] = {}


class Sample(Details):
    """A generated row, for people to read."""

    prompt: str = ""
    input: str = ""
    output: str = ""


class EngineStats(Details):
    """What asking the teacher took: requests, tokens, and seconds of asking without the server's start.

    Attributes:
        reused: requests that the store had answers to.
        retried: tries beyond the first of a request.
        refused, failed: requests that the server would not answer; those given up after all their tries.
        prefix_cache_hit_rate: share of the prompts' tokens that vLLM had in its prefix cache; None: not known.
        latency_seconds, first_token_seconds: p50, p90, p99 until the last and the first token; None: not known.
        deaths: what ended the servers that were restarted.
        by_endpoint: answers by endpoint; ``vLLM`` is the one that the stage started.
        concurrency: the limit of requests in flight at the end, over all endpoints.
    """

    asked: int = 0
    reused: int = 0
    retried: int = 0
    refused: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    tokens_per_second: float = 0.0
    rows_per_second: float = 0.0
    prefix_cache_hit_rate: float | None = None
    latency_seconds: dict[str, float] | None = None
    first_token_seconds: dict[str, float] | None = None
    restarts: int = 0
    deaths: list[str] = []
    by_endpoint: Counts = {}
    concurrency: int = 0


class GenerateDetails(Details):
    """Of generate. ``by_prompt``: ``requests`` and ``kept`` rows; ``attempts``: ``answers`` and ``kept``.

    ``judges``: ``asked``, ``passed``, ``no_verdict``, ``mean_score``; ``unasked``: requests that the limit ``stopped``
    left out.
    """

    rules: Counts = {}
    by_prompt: dict[str, Counts] = {}
    attempts: dict[str, Counts] = {}
    samples: list[Sample] = []
    asked: int = 0
    reused: int = 0
    completion_tokens: int = 0
    stats: EngineStats | None = None
    judges: dict[str, dict[str, int | float | None]] = {}
    unasked: int = 0
    not_applicable: Counts = {}
    stopped: str | None = None
    failed: int = 0


class ValidateDetails(Details):
    """Of validate. ``by_prompt``, ``by_source``: ``rows_in`` and each outcome.

    ``contamination``: rows by evaluation set; ``floors``: rows that there are, and rows that are required; ``control``:
    rows of the control set.
    """

    by_prompt: dict[str, Counts] = {}
    by_source: dict[str, Counts] = {}
    labels: Counts = {}
    duplicate_kinds: Counts = {}
    contamination: Counts = {}
    rules: Counts = {}
    warnings: dict[str, str] = {}
    floors: dict[str, list[int]] = {}
    diversity: dict[str, int | float | None] = {}
    control: int | None = None


class Measure(Details):
    """A measure of drift; ``against`` is the version that it was compared with, ``said`` what moved, in words."""

    value: float = 0.0
    limit: float | None = None
    severity: str | None = None
    holds: bool = True
    against: str | None = None
    said: str = ""


class TrainingSetDetails(Details):
    """Of check_training_set. ``compared_with``: the versions of the published training sets, by role."""

    warnings: dict[str, str] = {}
    compared_with: dict[str, str] = {}
    drift: dict[str, Measure] = {}


class MixShare(Details):
    """A group or a source in the training mix. Shares are fractions; ``repeats``: of the row that is used most."""

    rows_before: int = 0
    rows_after: int = 0
    share_asked: float | None = None
    share_reached: float = 0.0
    repeats: int = 1
    tokens: int = 0


class InitialVersion(Details):
    """The published version that a training continued from."""

    version: str = ""
    digest: str = ""


class ValidationDetails(Details):
    """Of a validation split. ``losses`` in nats per trained token: ``before`` training, ``lowest`` and ``final``.

    ``split`` counts ``rows`` and ``documents`` in it, and ``trained_rows``; ``kept_step``: whose weights were kept;
    ``fault``: why those of the lowest loss could not be.
    """

    split: Counts = {}
    losses: dict[str, float] = {}
    lowest_step: int = 0
    planned_steps: int = 0
    kept_step: int = 0
    fault: str = ""


class TrainDetails(Details):
    """Of train. ``mfu``: model FLOPs utilisation, 0 to 1; ``resumed_from``: the step of a checkpoint."""

    method: str | None = None
    backend: str | None = None
    quantised_layers: int | None = None
    trainable_parameters: int | None = None
    total_parameters: int = 0
    steps: int | None = None
    trained_token_share: float | None = None
    training_rows: int = 0
    tokens: int = 0
    over_length: Counts = {}
    mix: dict[str, MixShare] = {}
    fraction: float = 1.0
    processes: int = 1
    initial_adapter: InitialVersion | None = None
    device: str | None = None
    dtype: str = ""
    final_loss: float = 0.0
    optimizer: str = ""
    packing: bool = False
    batch_size: int = 1
    accumulation_steps: int = 1
    resumed_from: int | None = None
    validation: ValidationDetails | None = None
    peak_memory_bytes: int = 0
    tokens_per_second: float | None = None
    mfu: float | None = None
    seconds: float = 0.0
    mlflow_run_id: str | None = None


class Probe(Details):
    """What each model answered to a probe."""

    prompt: str = ""
    base: str | None = None
    candidate: str | None = None
    champion: str | None = None


class CurvePoint(Details):
    """A model on the learning curve."""

    fraction: float = 1.0
    rows: int = 0
    score: float = 0.0
    interval: list[float] = []


class Difference(Details):
    """A paired difference of two scores with its interval and p-value; ``name`` and ``version``: of the champion."""

    difference: float = 0.0
    ci_low: float = 0.0
    ci_high: float = 0.0
    p_value: float = 1.0
    name: str = ""
    version: str = ""


class CurveGain(Details):
    """What the last enlargement of the training set brought; ``sentence`` says it in words."""

    factor: float = 1.0
    per_doubling: float = 0.0
    over_smaller: Difference | None = None
    sentence: str = ""


class EvaluateDetails(Details):
    """Of evaluate, and the content of ``evaluation.json``, without ``probes``. Rates are fractions.

    ``difference`` to ``p_value`` compare the candidate with the base. ``probes_kept``: mean token F1 of its answers to
    the probes against the base's; ``probes_labelled``: how many are nothing but a label.
    """

    metric: str = ""
    n: int = 0
    base: float = 0.0
    base_restricted: float | None = None
    base_few_shot: float | None = None
    candidate: float = 0.0
    champion: float | None = None
    intervals: dict[str, list[float] | None] = {}
    difference: float = 0.0
    ci_low: float = 0.0
    ci_high: float = 0.0
    p_value: float = 1.0
    against_champion: Difference | None = None
    decision: str = ""
    reason: str = ""
    confidence: float = 0.95
    curve: list[CurvePoint] = []
    curve_gain: CurveGain | None = None
    replay_unasked: int | None = None
    probes: list[Probe] = []
    probes_kept: float | None = None
    probes_labelled: int | None = None


class Merge(Details):
    """How a merged model compares with what was trained."""

    files: list[str] = []
    parameters: int = 0
    dequantised_layers: int = 0
    max_logit_difference: float = 0.0
    top1_agreement: float = 0.0


class PublishDetails(Details):
    """Of publish. ``merge`` is None where the candidate did not pass the gate."""

    decision: str = ""
    reason: str = ""
    merge: Merge | None = None
